package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// confirm asks before something that can not be undone. Where nobody can be asked it
// says how to go on without.
func (a *app) confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	in, isFile := cmd.InOrStdin().(*os.File)
	if isFile {
		if _, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err != nil {
			return errors.New("nothing was done: give --yes to do it, since there is no terminal to ask at")
		}
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return errors.New("nothing was done")
}
