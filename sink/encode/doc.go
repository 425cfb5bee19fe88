// Package encode turns events into keys, values and headers: the json format of docs/events.md.
//
//	*event.Table ──NewPlan──▶ Plan   names and keys, made once per table
//	*event.Change ──Plan.Records──▶ which records the change makes: one to three
//	              ──Encoder.AppendKey, AppendValue──▶ bytes behind the caller's own
//
// Values are appended from the text that the server sent, without a Go value in between: no
// number passes through a float64 and no row allocates once the Encoder is warm. The text is read
// as the session options make it (DateStyle ISO, IntervalStyle iso_8601, TimeZone UTC,
// bytea_output hex, extra_float_digits 3, client_encoding UTF8).
//
// A text that does not have the form its type promises is written as a JSON string, as it is: the
// record still holds all that was sent. What cannot be written without loss is a fault.ValueInvalid
// error with table, column and position, never a guess: bytes that are not UTF-8, a key column
// whose value was not sent, a bytea that is not hexadecimal (as a string it could be taken for
// base64), a value in binary form.
package encode
