// Reads a compose file as Docker Compose does, or a Dockerfile as BuildKit does, and prints what they understood as JSON.
//
//	checks compose docker-compose.yml .env
//	checks dockerfile deploy/Dockerfile
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	var out any
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == "compose":
		out, err = compose(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "dockerfile":
		out, err = dockerfile(os.Args[2])
	default:
		err = fmt.Errorf("usage: checks compose FILE ENV, checks dockerfile FILE")
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// compose is the project with every profile: schema checked, variables filled in, references resolved.
func compose(file, env string) (any, error) {
	options, err := cli.NewProjectOptions([]string{file},
		cli.WithEnvFiles(env), cli.WithDotEnv, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

// dockerfile is a stage a line: its name, its base, and how many instructions it has.
func dockerfile(file string) (any, error) {
	source, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	parsed, err := parser.Parse(source)
	if err != nil {
		return nil, err
	}
	for _, warning := range parsed.Warnings {
		fmt.Fprintln(os.Stderr, "warning:", warning.Short)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	var told []map[string]any
	for _, stage := range stages {
		commands := []string{}
		for _, command := range stage.Commands {
			commands = append(commands, command.Name())
		}
		told = append(told, map[string]any{"name": stage.Name, "base": stage.BaseName, "commands": commands})
	}
	return told, nil
}
