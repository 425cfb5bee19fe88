INSERT INTO shop.plain VALUES (1, true, -32768, -2147483648, -9223372036854775808, 4294967295,
    1.5, 0.1, 19.90, 12345678901234567890.0123456789,
    'a "quoted" \ text' || chr(10) || 'Ünïcödé 🐘', 'varchar', 'c', 'name', 'CiText',
    '\x00ff5c22', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"k" : 1, "k":  null}', '{"k": 1e400, "n": 12345678901234567890}', '<a>b</a>');
INSERT INTO shop.plain (id, b, f4, f8, n, t, by, j, jb) VALUES (2, false, 'NaN', '-Infinity', 'NaN', '', '', 'null', 'null');
INSERT INTO shop.plain (id, i2, i4, i8, f4, f8, n) VALUES (9223372036854775807, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 5e-324, 'Infinity');
INSERT INTO shop.plain (id, n) VALUES (4, '0.000000000000000000000000000000000000000001'), (5, -1e30), (6, 0.00);
UPDATE shop.plain SET t = NULL, b = NULL WHERE id = 1;
DELETE FROM shop.plain WHERE id = 2;
INSERT INTO shop.times VALUES (1, '2026-05-01 10:00:00.123456', '2026-05-01 10:00:00.123456+02', '2026-05-01 10:00:00.1239', '2026-05-01', '10:00:00.5', '10:00:00+05:30', '1 year 2 mons 3 days 04:05:06.7');
INSERT INTO shop.times VALUES (2, 'infinity', '-infinity', NULL, 'infinity', '24:00:00', '00:00:00-12', '-1 year +2 days -00:00:01');
INSERT INTO shop.times VALUES (3, '0044-03-15 12:00:00 BC', '0044-03-15 12:00:00+00 BC', NULL, '0044-03-15 BC', '00:00:00', '23:59:59.999999+15:59:59', '0');
INSERT INTO shop.times VALUES (4, '10000-01-01 00:00:00', '294276-12-31 23:59:59.999999+00', NULL, '5874897-12-31', NULL, NULL, '178000000 years');
INSERT INTO shop.made VALUES (1, 'sad', 42, '{happy,sad}', ROW('Main "St", 1', 12345, '2026-05-01'), 'a=>1, "b c"=>NULL, d=>"\"q\""', ARRAY[ROW('a', 1, NULL)::shop.address, NULL], ARRAY['k=>v'::hstore]);
INSERT INTO shop.made VALUES (2, 'so-so, "really"', 0, '{}', ROW(NULL, NULL, NULL), '', '{}', NULL);
INSERT INTO shop.made VALUES (3, NULL, NULL, '{"so-so, \"really\"",NULL}', ROW('', -1, 'infinity'), NULL, NULL, NULL);
INSERT INTO shop.arrays VALUES (1, '{1,NULL,3}', '{a,"b,c",NULL,"NULL","","q\"\\"}', '{{1,2},{3,4}}', '{"2026-05-01 10:00:00+00",infinity}', '{happy,"so-so, \"really\""}', '{1,2}', '{(1,2),(0,0);(3,3),(2,2)}', ARRAY['{"a": [1, 2]}'::jsonb, 'null'], '{"\\x00","\\xff"}', '1 2 3');
INSERT INTO shop.arrays (id, ints, texts, nested) VALUES (2, '{}', '[2:3]={a,b}', '[0:1][-1:0]={{1,2},{3,4}}');
INSERT INTO shop.others VALUES (1, '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'1010', B'101',
    '[1,10)', '[2026-05-01 10:00+00,)', '{[1,3),[5,7)}', '1234.56', '(1,2)', '((0,0),(1,1),(1,0))', 'a fat cat', 'fat & cat',
    '16/B374D848', '751', '$.a[*] ? (@ > 1)', 'pg_class');
INSERT INTO shop.others (id, inet, ir) VALUES (2, '::1', 'empty');
