package event

// Origin names the one stream that positions belong to. Positions of different origins cannot be
// compared: another system identifier is another cluster (a restore, pg_upgrade), and a slot of
// the same name in another database is another stream.
type Origin struct {
	SystemID string `json:"system_id"`
	Database string `json:"database"`
	Slot     string `json:"slot"`
}

// Server is what a source learned of the server at connect.
type Server struct {
	Origin Origin
	// Version is server_version_num, such as 180004.
	Version int
	// Timeline is the server's own; it grows by a promotion.
	Timeline uint32
	// End is the end of the server's WAL at connect. Nothing above it may be asked for.
	End LSN
	// Switches are the ends of the earlier timelines, oldest first, as the server's history has
	// them. Empty on timeline 1.
	Switches []Switch
	// Slot is the state of the slot, nil where it does not exist.
	Slot *Slot
}

// Switch says that Timeline ended at At.
type Switch struct {
	Timeline uint32
	At       LSN
}

// Slot is the row of pg_replication_slots as far as it decides a start.
type Slot struct {
	Plugin    string
	Database  string
	TwoPhase  bool
	Temporary bool
	// Failover tells that standbys keep a copy of the slot; never before 17.
	Failover bool
	// Active tells whether a walsender holds it; PID is that walsender's.
	Active bool
	PID    int
	// WALStatus is reserved, extended, unreserved or lost; "" where the server does not say.
	WALStatus string
	// Invalidation is the server's reason (17 and later; 16 tells "wal_removed" and "conflict" apart), ""
	// for a slot that is well and before 16.
	Invalidation string
	// Restart is the oldest WAL the slot keeps; Confirmed is confirmed_flush_lsn, before which the
	// server sends nothing.
	Restart   LSN
	Confirmed LSN
}
