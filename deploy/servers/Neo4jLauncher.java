// Runs Neo4j's community edition with Bolt, in this process: Neo4jLauncher FOLDER CONFIGURATION PASSWORD_FILE
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

public class Neo4jLauncher {
    public static void main(String[] args) throws Exception {
        var service = new DatabaseManagementServiceBuilder(Path.of(args[0]))
            .loadPropertiesFromFile(Path.of(args[1]))
            .build();
        Runtime.getRuntime().addShutdownHook(new Thread(service::shutdown));
        var done = Path.of(args[2] + ".set");  // Neo4j refuses to set a password that is set already
        if (!Files.exists(done)) {
            service.database("system").executeTransactionally(
                "ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED",
                Map.of("password", Files.readString(Path.of(args[2]))));
            Files.createFile(done);
        }
        Thread.currentThread().join();
    }
}
