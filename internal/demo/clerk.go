package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// clerk is one connection's work: the customers and open orders it has made, and the transaction
// it is in. No two clerks touch the same order, so none waits for another for long.
type clerk struct {
	tx        pgx.Tx
	changes   []change
	customers []int64
	orders    []string
}

// work does what one transaction does.
func (c *clerk) work(ctx context.Context) error {
	switch dice := rand.N(10); { //nolint:gosec // a shop's customers, no secret
	case len(c.customers) == 0 || dice == 0:
		return c.register(ctx)
	case len(c.orders) == 0 || dice < 5:
		return c.order(ctx)
	case dice < 8:
		return c.advance(ctx)
	case dice < 9:
		return c.cancel(ctx)
	default:
		return c.restock(ctx)
	}
}

// wrote notes a change of the transaction.
func (c *clerk) wrote(table, op, key string, revision int) {
	c.changes = append(c.changes, change{table: table, op: op, key: key, revision: revision})
}

func pick[T any](of []T) T { return of[rand.N(len(of))] } //nolint:gosec // a shop's customers, no secret

// register inserts a customer.
func (c *clerk) register(ctx context.Context) error {
	name := pick([]string{"Ada", "Grace", "Edsger", "Barbara", "Tony", "Frances"})
	var id int64
	err := c.tx.QueryRow(ctx, `INSERT INTO shop.customers (name, tags, home, born, profile)
		VALUES ($1, $2, ROW('Quai 7', $3)::shop.address, $4::date, jsonb_build_object('news', $5::boolean, 'visits', 0))
		RETURNING id`,
		name, pick([][]string{{}, {"new"}, {"new", "vip"}}), pick([]string{"Genève", "Київ", "Lagos"}),
		fmt.Sprintf("19%d-03-1%d", 50+rand.N(50), rand.N(10)), rand.N(2) == 0, //nolint:gosec // a shop's customers, no secret
	).Scan(&id)
	if err != nil {
		return fmt.Errorf("register a customer: %w", err)
	}
	c.customers = append(slices.Clip(c.customers), id)
	c.wrote("customers", "c", strconv.FormatInt(id, 10), 1)
	return nil
}

// order inserts an order and takes its pieces from the stock.
func (c *clerk) order(ctx context.Context) error {
	sku := pick([]string{"kettle", "teapot", "cup", "saucer", "tea"})
	var revision int
	err := c.tx.QueryRow(ctx, `UPDATE shop.stock SET pieces = pieces - 1, revision = revision + 1
		WHERE sku = $1 RETURNING revision`, sku).Scan(&revision)
	if err != nil {
		return fmt.Errorf("take from the stock: %w", err)
	}
	c.wrote("stock", "u", sku, revision)
	var id string
	err = c.tx.QueryRow(ctx, `INSERT INTO shop.orders (customer, amount, items, delivery, within, note)
		SELECT $1, price, ARRAY[sku, 'box'], tstzrange(now(), now() + '2 days'), '1 day 02:30', $2
		FROM shop.stock WHERE sku = $3 RETURNING id::text`,
		pick(c.customers), pick([]*string{nil, ptr("leave at the door"), ptr(`"fragile"`)}), sku).Scan(&id)
	if err != nil {
		return fmt.Errorf("place an order: %w", err)
	}
	c.orders = append(slices.Clip(c.orders), id)
	c.wrote("orders", "c", id, 1)
	return nil
}

func ptr(s string) *string { return &s }

// advance moves an order on by one status.
func (c *clerk) advance(ctx context.Context) error {
	id := pick(c.orders)
	var revision int
	err := c.tx.QueryRow(ctx, `UPDATE shop.orders SET status = CASE status WHEN 'new' THEN 'paid' ELSE 'shipped' END::shop.status,
		revision = revision + 1 WHERE id = $1::uuid RETURNING revision`, id).Scan(&revision)
	if err != nil {
		return fmt.Errorf("advance an order: %w", err)
	}
	c.wrote("orders", "u", id, revision)
	return nil
}

// cancel deletes an order.
func (c *clerk) cancel(ctx context.Context) error {
	id := pick(c.orders)
	if _, err := c.tx.Exec(ctx, `DELETE FROM shop.orders WHERE id = $1::uuid`, id); err != nil {
		return fmt.Errorf("cancel an order: %w", err)
	}
	c.orders = slices.DeleteFunc(slices.Clone(c.orders), func(o string) bool { return o == id })
	c.wrote("orders", "d", id, 0)
	return nil
}

// restock updates every row of the stock in one statement.
func (c *clerk) restock(ctx context.Context) error {
	// In the order of the key: two clerks who lock the rows in different orders would wait for
	// each other.
	rows, err := c.tx.Query(ctx, `WITH locked AS (SELECT sku FROM shop.stock ORDER BY sku FOR UPDATE)
		UPDATE shop.stock s SET pieces = pieces + 10, counted = localtimestamp, revision = revision + 1
		FROM locked WHERE s.sku = locked.sku RETURNING s.sku, s.revision`)
	if err != nil {
		return fmt.Errorf("restock: %w", err)
	}
	var (
		sku      string
		revision int
	)
	_, err = pgx.ForEachRow(rows, []any{&sku, &revision}, func() error {
		c.wrote("stock", "u", sku, revision)
		return nil
	})
	if err != nil {
		return fmt.Errorf("restock: %w", err)
	}
	return nil
}
