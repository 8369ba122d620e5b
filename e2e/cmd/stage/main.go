// Command stage writes what a machine of the test bed gets laid over it into a new
// directory, and prints the directory's name: for `make e2e-shell`.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/dubnium/dubnium/e2e/stage"
)

func main() {
	tree, err := stage.Tree(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "stage:", err)
		os.Exit(1)
	}
	fmt.Println(tree)
}
