package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// runPause is a pod's sandbox process: it holds the namespaces, reaps what the pod's processes leave behind, and ends
// when it is told to.
func runPause() int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGCHLD)
	for received := range signals {
		if received != unix.SIGCHLD {
			return 0
		}
		for {
			child, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if child <= 0 || err != nil {
				break
			}
		}
	}
	return 0
}
