package model

import (
	"errors"
	"slices"
)

// Result is what a search found.
type Result struct {
	// States and Steps are how many were visited, Depth the length of the longest shortest way.
	States, Steps, Depth int
	// Violation is the first that was found, nil where there is none.
	Violation *Violation
}

// Violation is a broken promise.
type Violation struct {
	// What is broken.
	What string
	// Trace is the shortest way there, in words.
	Trace []string
}

// ErrTooLarge ends a search that has visited as many states as it may.
var ErrTooLarge = errors.New("the search has more states than it may visit")

// Check visits every state that the algorithm, changed by mut, can reach within cfg, most states of which
// it may visit, and returns after all of them or at the first violation. Breadth comes first, so that the way
// to a violation is a shortest one.
//
// Where no step breaks a promise it looks for states from which, without further faults, nothing leads
// to the end, where everything is delivered.
func Check(cfg Config, mut Mutation, most int) (Result, error) {
	m := newModel(cfg, mut)
	r := &search{model: m, found: make(map[key]int32)}
	init := m.initial()
	r.add(&init, -1, label{})
	var buf []move
	for done := 0; len(r.queue) > 0; done++ {
		from := r.queue[0]
		r.queue = r.queue[1:] // only its place is needed from here on
		buf = m.expand(&from, buf[:0])
		for k := range buf {
			mv := &buf[k]
			r.steps++
			if mv.bug != "" {
				return r.result(mv.bug, r.add(&mv.to, int32(done), mv.label)), nil
			}
			to, known := r.visit(mv, int32(done))
			if !known && len(r.parent) > most {
				return r.result("", -1), ErrTooLarge
			}
			if !mv.fault {
				r.edges = append(r.edges, edge{int32(done), to})
			}
		}
	}
	if stuck := r.stuck(); stuck >= 0 {
		return r.result("from here, without further faults, not everything is ever delivered and confirmed", stuck), nil
	}
	return r.result("", -1), nil
}

// search is one under way. A state is known by its place in the order in which they were found.
type search struct {
	*model
	queue  []state // those that are still to be expanded
	found  map[key]int32
	parent []int32
	labels []label
	depth  []int32
	ends   []int32 // states in which everything is delivered
	edges  []edge  // steps that are no faults
	steps  int
}

type edge struct{ from, to int32 }

func (r *search) visit(mv *move, from int32) (place int32, known bool) {
	if place, known = r.found[mv.to.key()]; known {
		return place, true
	}
	return r.add(&mv.to, from, mv.label), false
}

func (r *search) add(s *state, parent int32, l label) int32 {
	place := int32(len(r.parent)) //nolint:gosec // Check bounds it
	r.found[s.key()] = place
	r.queue, r.parent, r.labels = append(r.queue, *s), append(r.parent, parent), append(r.labels, l)
	depth := int32(0)
	if parent >= 0 {
		depth = r.depth[parent] + 1
	}
	r.depth = append(r.depth, depth)
	if r.done(s) {
		r.ends = append(r.ends, place)
	}
	return place
}

// result sums up; at is where bug shows.
func (r *search) result(bug string, at int32) Result {
	res := Result{States: len(r.parent), Steps: r.steps, Depth: int(r.depth[len(r.depth)-1])}
	if bug == "" {
		return res
	}
	var way []label
	for ; r.parent[at] >= 0; at = r.parent[at] {
		way = append(way, r.labels[at])
	}
	slices.Reverse(way)
	res.Violation = &Violation{What: bug, Trace: r.tell(way)}
	return res
}

// tell goes a way once more, and says what happened on it.
func (r *search) tell(way []label) []string {
	var told []string
	s := r.initial()
	r.telling = true
	defer func() { r.telling = false }()
	for _, l := range way {
		all := r.expand(&s, nil)
		mv := &all[slices.IndexFunc(all, func(mv move) bool { return mv.label == l })]
		for _, l := range append([]label{l}, mv.then...) {
			told = append(told, r.words(l))
		}
		s = mv.to
	}
	return told
}

// stuck returns the first state from which no steps without faults lead to the end, -1 for none.
func (r *search) stuck() int32 {
	n := len(r.parent)
	// The edges, sorted by where they lead to, so that they can be walked backwards.
	first := make([]int32, n+1)
	for _, e := range r.edges {
		first[e.to+1]++
	}
	for i := range n {
		first[i+1] += first[i]
	}
	from, at := make([]int32, len(r.edges)), make([]int32, n)
	for _, e := range r.edges {
		from[first[e.to]+at[e.to]] = e.from
		at[e.to]++
	}
	ends := make([]bool, n)
	todo := r.ends
	for _, p := range todo {
		ends[p] = true
	}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, q := range from[first[p]:first[p+1]] {
			if !ends[q] {
				ends[q] = true
				todo = append(todo, q)
			}
		}
	}
	for i, ok := range ends {
		if !ok {
			return int32(i)
		}
	}
	return -1
}
