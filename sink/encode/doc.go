// Package encode turns events into keys, values and headers.
package encode
