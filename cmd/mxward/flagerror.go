package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError says what a flag takes, where the parser would say which function of Go has failed.
func flagError(_ *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return err
	}
	flag := wrong.GetFlag()
	expected := ""
	switch flag.Value.Type() {
	case "int", "uint16":
		expected = "a whole number"
	case "duration":
		expected = "a time such as 90s, 5m or 2h"
	case "bool":
		expected = "true or false"
	case "stringSlice":
		expected = "names with commas between them, and no quotes"
	default:
		return err
	}
	return fmt.Errorf("--%s: expected %s, got %q", flag.Name, expected, wrong.GetValue())
}
