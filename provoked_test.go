package walferry_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/walferry/walferry/fault"
)

// provoked says which test brings each error about. They run against real servers: a Postgres, a Vault, a
// broker or the fake one of the client's own project. Where a comment stands, no server is asked, or none can
// be brought to it.
var provoked = map[fault.Code]string{
	// The configuration is judged before any server is asked.
	fault.ConfigInvalid:       "cmd/walferry/main_test.go:TestConfigurationErrors",
	fault.PasswordInArguments: "cmd/walferry/main_test.go:TestConfigurationErrors",
	fault.DeliveryUnsupported: "cmd/walferry/main_test.go:TestConfigurationErrors",
	fault.SASLWithoutTLS:      "cmd/walferry/main_test.go:TestConfigurationErrors",

	fault.PostgresUnavailable: "internal/e2e/operator_test.go:TestShowWithoutServers",
	fault.PostgresAuth:        "internal/e2e/secure_test.go:TestRefused",
	fault.PostgresTLS:         "replication/connect_test.go:TestFault46_TLS",
	fault.PostgresPrivilege:   "replication/setup_test.go:TestPrivileges",
	fault.PostgresSettings:    "replication/errors_test.go:TestFault56_Settings",

	fault.PublicationMissing:    "replication/publication_test.go:TestFault15_PublicationMissing",
	fault.PublicationLacksTable: "replication/publication_test.go:TestExistingPublication",
	fault.PublicationOptions:    "replication/publication_test.go:TestExistingPublication",
	fault.TableMissing:          "replication/tables_test.go:TestExpand",
	fault.TableIdentity:         "replication/publication_test.go:TestFault17_Identity",
	fault.TableKey:              "replication/publication_test.go:TestRecordKeys",

	fault.SlotBusy:     "internal/e2e/operator_test.go:TestOperatorCommands",
	fault.SlotMissing:  "internal/e2e/operator_test.go:TestOperatorCommands",
	fault.SlotUnknown:  "internal/e2e/operator_test.go:TestOperatorCommands",
	fault.SlotLost:     "replication/errors_test.go:TestFault12_SlotLost",
	fault.SlotTwoPhase: "replication/setup_test.go:TestCreateSlotOverAnotherOne",
	fault.SlotPlugin:   "replication/setup_test.go:TestCreateSlotOverAnotherOne",
	fault.SlotDatabase: "replication/setup_test.go:TestCreateSlotOverAnotherOne",

	fault.StreamInvalid:  "replication/assemble_test.go:TestAStreamThatMakesNoSenseIsRefused", // no real server sends it
	fault.StreamPoisoned: "replication/withhold_test.go:TestFault32_BytesThatAreNoText",
	fault.StreamDiverged: "replication/source_test.go:TestFault10_GoesOn",

	fault.CheckpointGap:      "internal/e2e/operator_test.go:TestOperatorCommands",
	fault.CheckpointAhead:    "internal/e2e/operator_test.go:TestOperatorCommands",
	fault.CheckpointOrigin:   "internal/e2e/errors_test.go:TestErrorCheckpointOrigin",
	fault.CheckpointTimeline: "internal/e2e/failover_test.go:TestFault10_FailoverWhileStopped",
	fault.CheckpointInvalid:  "checkpoint/kafka_test.go:TestFault55_ReadsWhatOthersWrote",
	fault.CheckpointLost:     "internal/e2e/operator_test.go:TestFault51_TopicDeletedInMidRun",
	fault.CheckpointNewer:    "checkpoint/kafka_test.go:TestFault55_ReadsWhatOthersWrote",
	fault.CheckpointOptions:  "internal/e2e/errors_test.go:TestErrorCheckpointOptions",
	fault.CheckpointTopic:    "checkpoint/kafka_test.go:TestKafkaStoreRefusesTopics",
	fault.CheckpointFile:     "internal/e2e/resources_test.go:TestFault52_DiskFull",

	fault.KafkaUnavailable: "internal/e2e/secure_test.go:TestRefused",
	fault.KafkaAuth:        "internal/e2e/secure_test.go:TestRefused",
	fault.KafkaTLS:         "internal/e2e/secure_test.go:TestRefused",
	fault.KafkaACL:         "sink/acl_test.go:TestFault44_ACLs",
	fault.KafkaUnsupported: "internal/e2e/errors_test.go:TestErrorKafkaUnsupported",

	fault.VaultUnavailable: "vault/refused_test.go:TestFault48_WhatVaultRefuses",
	fault.VaultAuth:        "vault/refused_test.go:TestFault48_WhatVaultRefuses",
	fault.VaultDenied:      "vault/refused_test.go:TestFault48_WhatVaultRefuses",
	fault.VaultSecret:      "vault/refused_test.go:TestFault48_WhatVaultRefuses",
	fault.VaultTLS:         "vault/refused_test.go:TestFault48_WhatVaultRefuses",
	fault.VaultUnwrap:      "vault/refused_test.go:TestFault48_WhatVaultRefuses",

	fault.CredentialRotated: "internal/e2e/rotation_test.go:TestFault49_DynamicRoleDropped",

	fault.TopicMissing:    "sink/topics_test.go:TestOpenRefuses",
	fault.TopicName:       "sink/topics_test.go:TestOpenRefuses",
	fault.TopicCollision:  "sink/topics_test.go:TestOpenRefuses",
	fault.TopicCompacted:  "sink/topics_test.go:TestOpenRefuses",
	fault.TopicPartitions: "sink/topics_test.go:TestOpenRefuses",

	fault.RecordTooLarge: "sink/fault_test.go:TestFault30_OversizeStops",
	fault.RecordRefused:  "sink/fault_test.go:TestFailures",
	fault.ValueInvalid:   "internal/e2e/errors_test.go:TestErrorValueInvalid",
	fault.Undelivered:    "internal/e2e/faults_test.go:TestTerminatedWhileKafkaIsAway",

	fault.Fenced:     "internal/e2e/standby_test.go:TestIdleZombieEnds",
	fault.HTTPListen: "monitor/server_test.go:TestAConfiguredAddressThatIsTakenIsAnError",
	fault.Internal:   "internal/e2e/errors_test.go:TestErrorInternal",
}

// TestEveryErrorCodeIsProvoked: each code has a test that is there and speaks of the code.
func TestEveryErrorCodeIsProvoked(t *testing.T) {
	names := codeNames(t)
	for _, code := range fault.Codes() {
		test, listed := provoked[code]
		if !listed {
			t.Errorf("no test provokes %s", code)
			continue
		}
		file, name, _ := strings.Cut(test, ":")
		body := function(t, file, name)
		switch {
		case body == "":
			t.Errorf("%s: there is no %s", code, test)
		case !regexp.MustCompile(`\bfault\.` + names[code] + `\b|\b` + string(code) + `\b`).MatchString(body):
			t.Errorf("%s does not speak of %s", test, code)
		}
	}
	if len(provoked) != len(fault.Codes()) {
		t.Errorf("%d codes are provoked, there are %d", len(provoked), len(fault.Codes()))
	}
}

// function returns the text of a test function, "" where the file lacks it.
func function(t *testing.T, file, name string) string {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == name {
			return string(src[files.Position(fn.Body.Pos()).Offset:files.Position(fn.Body.End()).Offset])
		}
	}
	return ""
}

// codeNames returns what each code is called in Go.
func codeNames(t *testing.T) map[fault.Code]string {
	t.Helper()
	names := map[fault.Code]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+)\s+Code = "([a-z_]+)"`).FindAllStringSubmatch(read(t, "fault/codes.go"), -1) {
		names[fault.Code(m[2])] = m[1]
	}
	if len(names) != len(fault.Codes()) {
		t.Fatalf("found the names of %d codes of %d", len(names), len(fault.Codes()))
	}
	return names
}
