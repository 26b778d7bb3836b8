BEGIN TRANSACTION;
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY, incident TEXT NOT NULL, receiver TEXT NOT NULL, state TEXT NOT NULL,
    sequence INTEGER NOT NULL, next_at REAL NOT NULL, receipt TEXT NOT NULL DEFAULT '', body TEXT NOT NULL);
INSERT INTO "deliveries" VALUES('20260101-000000-a.1.hook','20260101-000000-a','hook','pending',1,0.0,'','{"id":"20260101-000000-a.1.hook","incident":"20260101-000000-a","revision":1,"receiver":"hook","stage":"first","state":"pending","attempts":0,"next_at":0.0,"error":""}');
CREATE TABLE incidents (
    id TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, opened_at REAL NOT NULL,
    stage TEXT NOT NULL DEFAULT '', revision INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL);
INSERT INTO "incidents" VALUES('20260101-000000-a','a','open',100.0,'first',1,'{"id":"20260101-000000-a","target":"a","incident_class":"high_ttft","severity":"warning","state":"open","onset_at":90.0,"opened_at":100.0,"resolved_at":null,"symptoms":[],"timeline":[]}');
INSERT INTO "incidents" VALUES('20260101-000100-b','b','resolved',100.0,'resolved',3,'{"id":"20260101-000100-b","target":"b","incident_class":"high_ttft","severity":"warning","state":"resolved","onset_at":90.0,"opened_at":100.0,"resolved_at":200.0,"symptoms":[],"timeline":[]}');
CREATE TABLE intake (id INTEGER PRIMARY KEY AUTOINCREMENT, received_at REAL NOT NULL, body TEXT NOT NULL);
INSERT INTO "intake" VALUES(1,100.0,'{"version": "4", "alerts": []}');
CREATE TABLE inventories (target TEXT PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO "inventories" VALUES('a','{"at":1.0,"local":true,"processes":[],"command":[],"environment":{},"log_file":null,"version":"0.32.0","why_not":""}');
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "meta" VALUES('schema','1');
CREATE TABLE silences (id TEXT PRIMARY KEY, ends_at REAL NOT NULL, body TEXT NOT NULL);
INSERT INTO "silences" VALUES('s',1000000000000.0,'{"id":"s","match":{"target":"a"},"starts_at":0.0,"ends_at":1000000000000.0,"comment":""}');
CREATE TABLE timers (key TEXT PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO "timers" VALUES('states','{}');
INSERT INTO "timers" VALUES('told','{"symptoms":[]}');
CREATE INDEX incidents_open ON incidents (state, opened_at);
CREATE INDEX deliveries_pending ON deliveries (state, receiver, sequence);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('intake',1);
COMMIT;
