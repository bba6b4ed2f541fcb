"""The broker as a process: sockets, ordered answers, timers, start and stop."""
