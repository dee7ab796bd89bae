//go:build !linux

package main

import "syscall"

func noNetwork() *syscall.SysProcAttr { return nil }
