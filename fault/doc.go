// Package fault is the vocabulary of what can go wrong: one stable code per cause, what kind of
// cause it is, and an error that says where it happened and what to do.
//
// The rooms wrap what they meet at their border into an *Error; the pipeline asks only whether to
// try again (Retryable), and cmd turns the error into an exit code and words (ExitCode). Every
// code has a page, docs/errors/<code>.md, and a test holds pages and codes together.
//
// An Error never holds a secret or a value of a row: whoever makes one takes care of that.
package fault
