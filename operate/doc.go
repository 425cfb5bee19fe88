// Package operate is what a person does to a pipeline that stands still: look at it, and bring it back from
// a state that a start refuses.
//
//	Look ──State──▶ a plan (pure: what is not sent, what comes again, steps) ──▶ shown
//	                                                    └── with --yes, under the set-up lock ──▶ done
//
// The judgement is the one of a start, checkpoint.Judge: a plan that would end in a refusal is refused
// itself. What is written is written as the pipeline writes: the other writers are shut out first, the
// checkpoint is saved before the slot moves, so that the slot is never ahead of it. Each prefix of a
// plan's steps is a state that a start goes on from, or refuses with an error that names the command.
//
// The promises to operators stand in docs/commands.md. What it does not do: stop instances, delete topics.
package operate
