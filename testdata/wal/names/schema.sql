-- Names that need quotes, and names as long as Postgres allows.
CREATE SCHEMA "Schéma.mit Punkt";
CREATE TABLE "Schéma.mit Punkt"."Tä""ble.x" ("ID" int PRIMARY KEY, "a ""b"" \ c" text, "日本語" text, "select" text);
CREATE TABLE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa (bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb int PRIMARY KEY);
CREATE TYPE "Schéma.mit Punkt"."Möod" AS ENUM ('Größe', '');
CREATE TABLE "🐘" (id int PRIMARY KEY, mood "Schéma.mit Punkt"."Möod", moods "Schéma.mit Punkt"."Möod"[]);
CREATE PUBLICATION capture FOR TABLE "Schéma.mit Punkt"."Tä""ble.x", aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, "🐘";
