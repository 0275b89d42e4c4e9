package mysql

import (
	"bytes"
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheStockDriverStoresAndReadsEveryType(t *testing.T) {
	f := newFixture(t)
	for name, interpolate := range map[string]bool{"binary protocol": false, "text protocol": true} {
		t.Run(name, func(t *testing.T) {
			cfg := f.dsn("issuance", issuanceID, "issuance-service")
			cfg.InterpolateParams, cfg.ParseTime = interpolate, true
			db := f.openDSN(cfg)
			mustExec(t, db, "DROP TABLE IF EXISTS certificate")
			mustExec(t, db, `CREATE TABLE IF NOT EXISTS certificate (
				id VARCHAR(64) NOT NULL, n INT, big BIGINT UNSIGNED, score DOUBLE DEFAULT 0.5, flag BOOLEAN NOT NULL DEFAULT 0,
				body LONGBLOB, note TEXT COMMENT 'free text', made DATETIME(6), PRIMARY KEY (id), KEY by_n (n)
			) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`)
			made := time.Date(2021, 7, 1, 12, 30, 45, 123456000, time.UTC)
			blob := append([]byte{0, 1, 0xff, 0xfe, '\'', '\\', '"', '\n'}, bytes.Repeat([]byte{0x80}, 70000)...)
			note := "Ó Súilleabháin's \"quoted\" \\ back-slash \n %_ 日本"
			mustExec(t, db, "INSERT INTO certificate (id, n, big, flag, body, note, made) VALUES (?, ?, ?, ?, ?, ?, ?)", "a'b", -5, int64(1)<<60, true, blob, note, made)
			mustExec(t, db, "INSERT INTO `certificate` VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "empty", nil, nil, nil, false, []byte{}, nil, nil)
			var id, gotNote string
			var n, big int64
			var score float64
			var flag bool
			var body []byte
			var gotMade time.Time
			err := db.QueryRow("SELECT id, n, big, score, flag, body, note, made FROM certificate WHERE id = ? AND n < ?", "a'b", 0).Scan(&id, &n, &big, &score, &flag, &body, &gotNote, &gotMade)
			if err != nil {
				t.Fatal(err)
			}
			if id != "a'b" || n != -5 || big != 1<<60 || score != 0.5 || !flag || !bytes.Equal(body, blob) || gotNote != note || !gotMade.Equal(made) {
				t.Errorf("got %q %d %d %v %t %d bytes %q %s", id, n, big, score, flag, len(body), gotNote, gotMade)
			}
			var null sql.NullString
			var nullN sql.NullInt64
			if err := db.QueryRow("SELECT note, n, body FROM certificate WHERE id = ?", "empty").Scan(&null, &nullN, &body); err != nil || null.Valid || nullN.Valid || len(body) != 0 {
				t.Errorf("NULLs: got %v %v %d bytes, %v", null, nullN, len(body), err)
			}
			var count int
			var sum float64
			if err := db.QueryRow("SELECT COUNT(*), SUM(n) / 2 FROM certificate WHERE body = ? OR id = ?", blob, "x").Scan(&count, &sum); err != nil || count != 1 || sum != -2.5 {
				t.Errorf("got %d %v, %v; want 1 -2.5", count, sum, err)
			}
		})
	}
}

func TestTransactionsCommitAndRollBack(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(20))")
	for _, commit := range []bool{true, false} {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, tx, "INSERT INTO t VALUES (?, 'x')", map[bool]int{true: 1, false: 2}[commit])
		if commit {
			err = tx.Commit()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var ids []int
	rows, err := db.Query("SELECT id FROM t ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if len(ids) != 1 || ids[0] != 1 || rows.Err() != nil {
		t.Errorf("got %v, %v; want [1]", ids, rows.Err())
	}
}

func TestEveryMistakeHasMySQLsErrorNumber(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	db.SetMaxOpenConns(1)
	mustExec(t, db, "CREATE TABLE t (id BIGINT NOT NULL, name VARCHAR(5) NOT NULL, n TINYINT, d DATETIME, b VARBINARY(4), PRIMARY KEY (id), UNIQUE KEY by_name (name))")
	mustExec(t, db, "INSERT INTO t (id, name) VALUES (1, 'a')")
	for query, want := range map[string]uint16{
		"INSERT INTO t (id, name) VALUES (1, 'b')":           1062,
		"INSERT INTO t (id, name) VALUES (2, 'a')":           1062,
		"INSERT INTO t (id, name) VALUES (2, NULL)":          1048,
		"INSERT INTO t (id, name) VALUES (2, 'longer')":      1406,
		"INSERT INTO t (id, name, n) VALUES (2, 'b', 128)":   1264,
		"INSERT INTO t (id, name, n) VALUES (2, 'b', 'x')":   1366,
		"INSERT INTO t (id, name, d) VALUES (2, 'b', 'x')":   1292,
		"INSERT INTO t (id, name, b) VALUES (2,'b','12345')": 1406,
		"INSERT INTO t (id, name) VALUES (3)":                1136,
		"INSERT INTO t (id, nope) VALUES (3, 3)":             1054,
		"SELECT nope FROM t":                                 1054,
		"SELECT `nope` FROM t":                               1054,
		"SELECT * FROM nope":                                 1146,
		"SELEC * FROM t":                                     1064,
		"SELECT * FROM t WHERE":                              1064,
		"SELECT 'unclosed":                                   1064,
		"SELECT 1; SELECT 2":                                 1064,
		"CREATE TABLE t (id INT)":                            1050,
		"SELECT nope(1)":                                     1305,
		"SELECT abs(1, 2)":                                   1582,
		"SELECT @@nope":                                      1193,
		"SET nope = 1":                                       1193,
		"SET GLOBAL autocommit = 1":                          1227,
		"SET sql_mode = 'ANSI_QUOTES'":                       1231,
		"ROLLBACK TO nowhere":                                0, // as MySQL: without a transaction
		"SHOW GRANTS":                                        1235,
		"":                                                   1065,
		"USE `verifier-service`":                             1044,
		"USE nowhere":                                        1044,
		"SELECT * FROM `verifier-service`.t":                 1142,
	} {
		if _, err := db.Exec(query); code(err) != want {
			t.Errorf("%s: got %v, want error %d", query, err, want)
		}
		if err := db.Ping(); err != nil {
			t.Fatalf("after %s the connection is gone: %v", query, err)
		}
	}
	admin := f.openDSN(f.dsn("mysql-aadadmin", adminID, "issuance-service"))
	if _, err := admin.Exec("USE nowhere"); code(err) != 1049 {
		t.Errorf("an administrator's unknown database: got %v, want 1049", err)
	}
}

func TestAClientReachesNothingOfSQLitesOwn(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY)")
	for _, query := range []string{
		"ATTACH DATABASE 'verifier-service.db' AS x", "ATTACH 'x' AS x", "DETACH x", "PRAGMA journal_mode", "PRAGMA hexkey = '00'", "VACUUM", "VACUUM INTO '/tmp/x'",
		"SELECT load_extension('x')", "SELECT readfile('/etc/passwd')", "SELECT writefile('x', 'y')", "SELECT * FROM sqlite_schema", "SELECT * FROM sqlite_master",
		"SELECT * FROM `sqlite_master`", "SELECT * FROM main.sqlite_schema", "SELECT * FROM pragma_database_list", "SELECT * FROM pragma_table_info('t')",
		"CREATE VIRTUAL TABLE v USING fts5(x)", "CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; END", "CREATE VIEW v AS SELECT 1", "CREATE TEMP TABLE x (id INT)",
		"CREATE TEMPORARY TABLE x (id INT)", "CREATE TABLE x AS SELECT 1", "CREATE TABLE sqlite_x (id INT)", "ANALYZE", "REINDEX", "EXPLAIN SELECT 1",
		"SELECT 1 /*!50000 + 1 */", "SELECT * FROM t -- x\n; DROP TABLE t", "SELECT * FROM dbstat", "SELECT * FROM sqlite_stmt", "SELECT [id] FROM t", "SELECT :x", "SELECT $x",
		"SELECT ?1", "SELECT \"id\" FROM t WHERE \"nope\".id = 1", "SELECT vd_now()", "SELECT sqlite_version()", "SELECT fts5(1)", "SELECT * FROM bytecode('SELECT 1')",
		"SELECT * FROM json_each('[1]')", "SELECT zeroblob(1000000000)", "SELECT hex(randomblob(1000000))", "LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "SELECT 1 INTO OUTFILE '/tmp/x'",
		"INSERT INTO sqlite_sequence VALUES ('t', 1)", "UPDATE sqlite_schema SET sql = ''", "WITH x AS (SELECT 1) DELETE FROM sqlite_schema", "BEGIN EXCLUSIVE", "SAVEPOINT x; ATTACH 'y' AS y",
		"KILL 1", "GRANT ALL ON *.* TO x", "CREATE DATABASE x", "CREATE USER x", "ALTER TABLE t RENAME TO sqlite_t", "PREPARE s FROM 'SELECT 1'", "HANDLER t OPEN", "DO 1", "SELECT @x := 1",
	} {
		if rows, err := db.Query(query); err == nil {
			more := rows.Next()
			_ = rows.Close()
			if more || rows.Err() == nil {
				t.Errorf("%s was accepted", query)
			}
		} else if n := code(err); n == 1105 || n == 1037 || n == 0 {
			t.Errorf("%s: got %v, want an error that says why", query, err)
		}
	}
	var n int
	if err := db.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestMySQLsSpellingsMeanWhatTheyMeanThere(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	db.SetMaxOpenConns(1)
	mustExec(t, db, "CREATE TABLE `order` (`key` BIGINT NOT NULL AUTO_INCREMENT, `value` VARCHAR(50) COLLATE utf8mb4_bin, n INT DEFAULT 7, PRIMARY KEY (`key`), UNIQUE KEY (`value`)) AUTO_INCREMENT=10")
	r := mustExec(t, db, "INSERT INTO `order` (`value`) VALUES (\"it's\")")
	if id, err := r.LastInsertId(); err != nil || id != 1 {
		t.Errorf("LastInsertId: got %d, %v", id, err)
	}
	mustExec(t, db, "INSERT INTO `order` (`value`, n) VALUES ('it\\'s', 1), ('b', 2) ON DUPLICATE KEY UPDATE n = VALUES(n) + n, `value` = VALUES(`value`)")
	mustExec(t, db, "INSERT IGNORE INTO `order` (`value`) VALUES ('b')")
	mustExec(t, db, "INSERT INTO `issuance-service`.`order` (`value`, n) VALUES ('100%', 3)")
	for query, want := range map[string]string{
		"SELECT n FROM `order` WHERE `value` = 'it''s'":                               "8",
		"SELECT `o`.`n` FROM `issuance-service`.`order` AS o WHERE o.`value` <=> 'b'": "2",
		"SELECT COUNT(*) FROM `order` # comment":                                      "3",
		"SELECT 5/2 -- comment":                                                       "2.5",
		"SELECT 7--3":                                                                 "10",
		"SELECT 1 || 0":                                                               "1",
		"SELECT 1 && 0":                                                               "0",
		"SELECT !1":                                                                   "0",
		"SELECT CONCAT('a', 1, 'b')":                                                  "a1b",
		"SELECT IF(1 > 2, 'x', 'y')":                                                  "y",
		"SELECT LENGTH('é')":                                                          "2",
		"SELECT CHAR_LENGTH('é')":                                                     "1",
		"SELECT LEFT('abc', 2)":                                                       "ab",
		"SELECT 'A' LIKE 'a'":                                                         "0",
		"SELECT COUNT(*) FROM `order` WHERE `value` LIKE '%\\%'":                      "1",
		"SELECT COUNT(*) FROM `order` WHERE `value` LIKE '100|%' ESCAPE '|'": "1",
		"SELECT HEX(X'00ff')":            "00FF",
		"SELECT HEX(0x41)":               "41",
		"SELECT CAST('5' AS SIGNED) + 1": "6",
		"SELECT CAST(5 AS CHAR(10))":     "5",
		"SELECT DATABASE()":              "issuance-service",
		"SELECT CURRENT_USER()":          "issuance@127.0.0.1",
		"SELECT @@autocommit":            "1",
		"SELECT @@session.sql_mode":      "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
		"SELECT `value` FROM `order` ORDER BY n DESC LIMIT 1, 18446744073709551615": "100%",
		"SELECT `value` FROM `order` WHERE n IN (1, 3) FOR UPDATE":                  "100%",
		"SELECT 1 FROM DUAL":                 "1",
		"SELECT COALESCE(NULL, _utf8mb4'x')": "x",
		"WITH big (a) AS (SELECT n FROM `order` WHERE n > 2) SELECT SUM(a) FROM big":         "11",
		"SELECT COUNT(*) FROM `order` o LEFT JOIN `order` p ON o.n = p.n AND p.n > 2":        "3",
		"SELECT EXISTS (SELECT 1 FROM `order` WHERE n = 3)":                                  "1",
		"SELECT CASE WHEN n > 2 THEN 'many' ELSE 'few' END FROM `order` WHERE `value` = 'b'": "few",
		"SELECT DISTINCT 'a\\0b' = 'a\\0b'":                                                  "1",
		"SELECT LAST_INSERT_ID() > 0":                                                        "1",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", query, got, err, want)
		}
	}
	for query, want := range map[string]string{"SHOW TABLES": "order", "SHOW TABLES LIKE 'ord%'": "order", "SHOW DATABASES": "issuance-service", "SELECT @@version_comment LIMIT 1": "Verdant: MySQL protocol over encrypted SQLite"} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", query, got, err, want)
		}
	}
	for _, statement := range []string{"SET NAMES utf8mb4", "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_general_ci'", "SET autocommit=1, sql_mode='STRICT_TRANS_TABLES', time_zone = '+00:00'",
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET @@session.wait_timeout = 60", "ALTER TABLE `order` ADD COLUMN extra VARCHAR(10) NOT NULL DEFAULT 'x'", "ALTER TABLE `order` ADD INDEX by_extra (extra(5)), DROP COLUMN n",
		"CREATE UNIQUE INDEX u ON `order` (extra, `value`)", "DROP INDEX u ON `order`", "TRUNCATE TABLE `order`", "DESCRIBE `order`", "SHOW FULL COLUMNS FROM `order`", "SHOW VARIABLES LIKE 'lower_case_%'", "SHOW WARNINGS", "DROP TABLE `order`"} {
		if _, err := db.Exec(statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestComputedColumnsAreNamedByTheirText(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(9))")
	for query, want := range map[string][]string{
		"SELECT id, `name`, t.id, COUNT(*), id+1, MAX( id ) AS m, MIN(id) n, id FROM t": {"id", "name", "id", "COUNT(*)", "id+1", "m", "n", "id"},
		"SELECT * FROM t":                                                       {"id", "name"},
		"SELECT t.*, 1 FROM t":                                                  {"id", "name", "1"},
		"SELECT @@autocommit, NOW() , 'x' , ? + 1":                              {"@@autocommit", "NOW()", "'x'", "? + 1"},
		"SELECT DISTINCT (SELECT 1 FROM t), 1 IS NULL":                          {"(SELECT 1 FROM t)", "1 IS NULL"},
		"SELECT CASE WHEN 1 THEN 2 END, 1 UNION SELECT 2, 3 ORDER BY 1":         {"CASE WHEN 1 THEN 2 END", "1"},
		"SELECT id 'a b', \"x\" y, CURRENT_TIMESTAMP FROM t WHERE id IN (1, 2)": {"a b", "y", "CURRENT_TIMESTAMP"},
	} {
		var args []any
		if strings.Contains(query, "?") {
			args = []any{1}
		}
		rows, err := db.Query(query, args...)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		got, err := rows.Columns()
		_ = rows.Close()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", query, got, err, want)
		}
	}
}

func TestNoFileHoldsWhatAClientStored(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE person (id BIGINT PRIMARY KEY, name VARCHAR(100))")
	mustExec(t, db, "INSERT INTO person VALUES (1, ?)", "Gráinne Mhaol")
	for _, name := range []string{"issuance-service.db", "issuance-service.db-wal", "issuance-service.db-shm"} {
		data := readFile(t, f.dir, name)
		for _, clear := range []string{"Mhaol", "person", "SQLite"} {
			if strings.Contains(data, clear) {
				t.Errorf("%s holds %q in clear", name, clear)
			}
		}
	}
}
