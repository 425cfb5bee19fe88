package kafkaserver

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/walferry/walferry/internal/cachedir"
)

// ErrMissing is wrapped by the error of Start where the machine has no Java, or no Maven to fetch
// the jars with.
var ErrMissing = errors.New("not installed")

//go:embed pom.xml
var pom []byte

// jars returns the folder of Kafka's jars. It is named for the content of pom.xml, so another
// version in there is another folder.
func jars() (string, error) {
	return cachedir.Folder(fmt.Sprintf("kafka-%x", sha256.Sum256(pom))[:18], func(dir string) error {
		mvn, err := exec.LookPath("mvn")
		if err != nil {
			return fmt.Errorf("maven, which fetches Kafka's jars, is %w", ErrMissing)
		}
		work, err := os.MkdirTemp("", "walferry-jars-")
		if err != nil {
			return fmt.Errorf("make a folder for pom.xml: %w", err)
		}
		file := filepath.Join(work, "pom.xml")
		if err := os.WriteFile(file, pom, 0o600); err != nil {
			return errors.Join(err, os.RemoveAll(work))
		}
		out, err := exec.Command(mvn, "-q", "-B", "-f", file, //nolint:gosec // our own arguments
			"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("run maven: %w: %s", err, bytes.TrimSpace(out))
		}
		return errors.Join(err, os.RemoveAll(work))
	})
}

func java() (string, error) {
	path, err := exec.LookPath("java")
	if err != nil {
		return "", fmt.Errorf("java, which runs Kafka, is %w", ErrMissing)
	}
	return path, nil
}
