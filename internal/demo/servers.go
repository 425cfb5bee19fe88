package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/walferry/walferry/internal/pgserver"
)

// database is where the shop lives.
const database = "shop"

// Servers are a Postgres with an empty database and a broker, both on loopback and on free ports.
type Servers struct {
	postgres *pgserver.Server
	kafka    *kfake.Cluster
}

// StartServers starts both and blocks until they take connections. The caller must Close them.
func StartServers(ctx context.Context) (*Servers, error) {
	pg, err := pgserver.Start(ctx, pgserver.Options{})
	if err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	s := &Servers{postgres: pg}
	if err := s.createDatabase(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.kafka, err = kfake.NewCluster(kfake.NumBrokers(1)); err != nil {
		return nil, errors.Join(fmt.Errorf("start the broker: %w", err), s.Close())
	}
	return s, nil
}

func (s *Servers) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.postgres.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+database)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("create the shop's database: %w", err)
	}
	return nil
}

// PostgresURL is the shop's database, with the password in it: it is on loopback.
func (s *Servers) PostgresURL() string { return s.postgres.DSN(database) }

// Broker is the broker's host:port.
func (s *Servers) Broker() string { return s.kafka.ListenAddrs()[0] }

// PostgresVersion is the major version.
func (s *Servers) PostgresVersion() int { return s.postgres.Major() }

// Close stops both and removes what they kept.
func (s *Servers) Close() error {
	if s.kafka != nil {
		s.kafka.Close()
	}
	return s.postgres.Close()
}
