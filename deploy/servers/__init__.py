"""Real servers without containers: installed once into a cache, started on free ports of the loopback, ended by pid.

Each module has one class with the same shape (`deploy.servers.process.Server`):

    with Kafka(folder) as kafka:      # installs what is missing, starts, returns when the server answers
        kafka.url                     # kafka://127.0.0.1:PORT
        kafka.kill()                  # SIGKILL
        kafka.start()                 # goes on with the same folder and port
"""
