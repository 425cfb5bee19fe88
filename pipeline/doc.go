// Package pipeline runs the way of one row.
package pipeline
