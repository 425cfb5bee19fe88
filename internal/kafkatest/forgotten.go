package kafkatest

import (
	"context"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Unverified is the setting of a broker that LeaveOpen works on.
func Unverified() map[string]string {
	return map[string]string{"transaction.partition.verification.enable": "false"}
}

// LeaveOpen makes what a coordinator leaves that forgets a partition: a transaction that is complete, and in partition 0
// of the topic open, with one record, of the key and the value "forgotten". The record gets there in the old way, in which a
// producer tells the coordinator of it by itself, or here does not.
func (b *Broker) LeaveOpen(transactionalID, topic string, commit bool) {
	b.tb.Helper()
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.Produce), 11)
	client := b.Client(kgo.MaxVersions(versions))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	check := func(err error, code int16) {
		b.tb.Helper()
		if err == nil {
			err = kerr.ErrorForCode(code)
		}
		b.must(err)
	}
	known := b.Topic("known", 1)
	id := InitProducer(b.tb, client, transactionalID)

	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = transactionalID, id.ProducerID, id.ProducerEpoch
	add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: known, Partitions: []int32{0}}}
	added, err := add.RequestWith(ctx, client)
	check(err, 0)
	check(nil, added.Topics[0].Partitions[0].ErrorCode)

	produce := kmsg.NewPtrProduceRequest()
	produce.TransactionID, produce.Acks, produce.TimeoutMillis = &transactionalID, -1, 10_000
	produce.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{
		Records: batch(id.ProducerID, id.ProducerEpoch, "forgotten"),
	}}}}
	produced, err := produce.RequestWith(ctx, client)
	check(err, 0)
	check(nil, produced.Topics[0].Partitions[0].ErrorCode)

	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = transactionalID, id.ProducerID, id.ProducerEpoch, commit
	ended, err := end.RequestWith(ctx, client)
	check(err, 0)
	check(nil, ended.ErrorCode)

	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, topic)
	check(err, 0)
	stable, err := admin.ListCommittedOffsets(ctx, topic)
	check(err, 0)
	if ends.Offsets()[topic][0].At == stable.Offsets()[topic][0].At {
		b.tb.Fatal("nothing is left open")
	}
}

// InitProducer claims a transactional id, and waits for what the claim before has to complete.
func InitProducer(tb testing.TB, client *kgo.Client, transactionalID string) *kmsg.InitProducerIDResponse {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = &transactionalID, 60_000, -1, -1
	for {
		resp, err := req.RequestWith(ctx, client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if errors.Is(err, kerr.ConcurrentTransactions) {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		return resp
	}
}

// batch returns one record in a batch of a transaction.
func batch(id int64, epoch int16, value string) []byte {
	record := kmsg.Record{Key: []byte(value), Value: []byte(value)}
	record.Length = int32(len(record.AppendTo(nil)) - 1) //nolint:gosec // small; a length of 0 took one byte
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4, FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: id, ProducerEpoch: epoch, NumRecords: 1, Records: record.AppendTo(nil),
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)                                            //nolint:gosec // small
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli))) //nolint:gosec // its bits
	return b.AppendTo(nil)
}
