// Package childproc runs a server as a child process that cannot outlive us: where the kernel
// allows it (Linux) the child is signalled when this process dies, even by kill -9. It also hands
// out ports that stay free while such a server is down, and folders that do not outlive us for long.
//
// It knows nothing of what it runs. internal/pgserver and internal/kafkaserver are built on it.
package childproc
