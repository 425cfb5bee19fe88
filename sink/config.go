package sink

// Config says where changes go and what happens to those that do not fit.
type Config struct {
	// Pipeline is the pipeline's name, {name} in the topic template.
	Pipeline string
	Topics   TopicConfig
	// Compression is none, gzip, snappy, lz4 or zstd.
	Compression string
	// DeadLetterTopic takes records that their own topic refuses; empty means that such a record
	// stops the pipeline.
	DeadLetterTopic string
	// Keys overrides the columns of the record key, by schema.table as event.Table.String spells it.
	Keys map[string][]string
	// Messages says that logical messages are published, so that their topic is made at Open. It
	// is {name}._messages whatever the template is.
	Messages bool
}

// TopicConfig says how topics are named and made.
type TopicConfig struct {
	// Name is a template of {name}, {schema} and {table}.
	Name string
	// Create lets the sink create topics that do not exist.
	Create bool
	// Partitions and ReplicationFactor are of topics that the sink creates; -1 is the broker's default.
	Partitions        int32
	ReplicationFactor int16
	// Config is passed to CreateTopics as it is, such as retention.ms.
	Config map[string]string
}
