INSERT INTO "Schéma.mit Punkt"."Tä""ble.x" VALUES (1, 'a', '値', 'b');
UPDATE "Schéma.mit Punkt"."Tä""ble.x" SET "日本語" = '新';
DELETE FROM "Schéma.mit Punkt"."Tä""ble.x";
INSERT INTO aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa VALUES (1);
INSERT INTO "🐘" VALUES (1, 'Größe', '{"",Größe}');
