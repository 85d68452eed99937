"""Cypher that wants more than to read one graph, by what it wants.

``CANARY`` stands for the URL of a file that holds a secret, ``LISTENER`` for an HTTP server that
hears whoever calls it.
"""

from __future__ import annotations

WRITES = [
    "CREATE (n:Bad)",
    "create(n:Bad)return n",
    "INSERT (:Bad)",
    "MERGE (n:Bad {id: 1})",
    "MERGE (n:Run {name: 'x'}) ON CREATE SET n.bad = 1 ON MATCH SET n.bad = 2",
    "MATCH (n) DETACH DELETE n",
    "MATCH (n) NODETACH DELETE n",
    "MATCH ()-[k:LINK]->() DELETE k",
    "MATCH (n) SET n.x = 1",
    "MATCH (n) SET n = {}",
    "MATCH (n) SET n += {x: 1}",
    "MATCH (n) SET n:Bad",
    "MATCH (n) SET n:$('Bad')",
    "MATCH (n:Run) SET n['na' + 'me'] = 'bad'",
    "MATCH (n) REMOVE n.x",
    "MATCH (n) REMOVE n:Run",
    "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS",
    "UNWIND range(1, 3) AS i CALL (i) { CREATE (:Bad) } IN TRANSACTIONS OF 1 ROW",
    "UNWIND [1] AS i CALL (i) { CREATE (:Bad) } IN 2 CONCURRENT TRANSACTIONS ON ERROR CONTINUE",
    "CYPHER 5 MATCH (n:Run) CALL { WITH n SET n.x = 1 } RETURN n",
    "OPTIONAL CALL () { CREATE (:Bad) RETURN 1 AS x } RETURN x",
    "CALL () { CALL () { CREATE (:Bad) } }",
    "FOREACH (i IN [1] | CREATE (:Bad))",
    "FOREACH (i IN CASE WHEN true THEN [1] ELSE [] END | FOREACH (j IN [1] | MERGE (:Bad)))",
    "MATCH (n) WITH n LIMIT 1 CALL (n) { SET n.x = 1 } RETURN n",
    "MATCH (n) WHERE false CREATE (:Bad)",
    "RETURN 1 AS x UNION CREATE (:Bad) RETURN 1 AS x",
    "CYPHER 5 CREATE (:Bad)",
    "CYPHER 25 CREATE (:Bad)",
    "CYPHER 25 runtime=slotted CREATE (:Bad)",
    "CYPHER 25 WHEN true THEN { CREATE (:Bad) RETURN 1 AS x } ELSE { RETURN 2 AS x }",
    "CYPHER 25 RETURN 1 AS x NEXT CREATE (:Bad)",
    "CYPHER 25 LET x = 1 FILTER x = 1 CREATE (:Bad)",
    "EXPLAIN CREATE (:Bad)",
    "PROFILE CREATE (:Bad)",
    "explain create (:Bad)",
    "EXPLAIN PROFILE CREATE (:Bad)",
    "CYPHER 25 PROFILE CREATE (:Bad)",
    "/* only reading */ CREATE (:Bad)",
    "// only reading\nCREATE (:Bad)",
    "// only reading\rCREATE (:Bad)",
    "RETURN 1 //\n AS x UNION CREATE (:Bad) RETURN 1 AS x",
    "\u00a0CREATE\t(:Bad)",
    "\ufeffCREATE (:Bad)",
    "CREA\\u0054E (:Bad)",
    "\\u0043REATE (:Bad)",
    "\\uuu0043REATE (:Bad)",
    "RETURN 1; CREATE (:Bad)",
    "RETURN 1;\nMATCH (n) DELETE n;",
    "RETURN ';' AS x; CREATE (:Bad)",
    "RETURN '\\u0027 AS x CREATE (:Bad) //'",
    "USE neo4j CREATE (:Bad)",
]
SCHEMA = [
    "CREATE INDEX bad FOR (n:Bad) ON (n.id)",
    "CREATE FULLTEXT INDEX bad FOR (n:Run) ON EACH [n.name]",
    "CREATE LOOKUP INDEX bad FOR (n) ON EACH labels(n)",
    "DROP INDEX cntgraph_NeuronState_run_epoch",
    "DROP CONSTRAINT cntgraph_Run_id IF EXISTS",
    "CREATE CONSTRAINT bad FOR (n:Bad) REQUIRE n.id IS UNIQUE",
    "CYPHER 25 ALTER CURRENT GRAPH TYPE SET { (b:Bad => {x :: STRING}) }",
    "CALL db.createLabel('Bad')",
    "CALL db.createProperty('bad')",
    "CALL db.createRelationshipType('BAD')",
    "CALL db.create.setNodeVectorProperty(null, 'x', [1.0])",
]
_LOAD = "LOAD CSV FROM 'CANARY' AS line RETURN line"
_CALL = "CALL db.stats.retrieve('GRAPH COUNTS') YIELD data RETURN data"  # it reads, and is not ours
# Places where a plan shows a subquery in operators of its own, and where it does not.
_WITHIN = [
    "RETURN 1 AS x UNION ALL {0} AS x",
    "CALL () { {0} AS x } RETURN x",
    "MATCH (n) WHERE EXISTS { {0} } RETURN n",
    "RETURN COLLECT { {0} } AS x",
    "RETURN [x IN [1] | COLLECT { {0} }] AS x",
    "RETURN [x IN [1] WHERE EXISTS { {0} } | x] AS x",
    "RETURN reduce(s = 0, x IN [1] | s + COUNT { {0} }) AS x",
    "RETURN any(x IN [1] WHERE EXISTS { {0} }) AS x",
    "RETURN CASE WHEN rand() > 2 THEN [] ELSE COLLECT { {0} } END AS x",
    "RETURN {a: [[x IN [1] | [y IN [x] | COUNT { {0} }]]]} AS x",
    "MATCH (n:Run) RETURN n { .name, x: [y IN [1] | COUNT { {0} }] } AS x",
    "MATCH (n:Run) RETURN [(n)-->(m) WHERE any(x IN [1] WHERE EXISTS { {0} }) | m.id] AS x",
    "MATCH (:Run) ((a)-->(b) WHERE EXISTS { {0} })+ (c) RETURN count(*) AS x",
    "MATCH p = shortestPath((:Run)-[*]->(:Layer))"
    " WHERE all(n IN nodes(p) WHERE EXISTS { {0} }) RETURN p",
    "RETURN 1 AS x ORDER BY COUNT { {0} }",
    "UNWIND [x IN [1] | COUNT { {0} }] AS x RETURN x",
    "CALL db.labels() YIELD label WHERE any(x IN [1] WHERE EXISTS { {0} }) RETURN label",
    "CALL db.index.fulltext.queryNodes([x IN ['a'] | x + COUNT { {0} }][0], 'x') YIELD node"
    " RETURN node",
    "SHOW INDEXES YIELD name WHERE any(x IN [1] WHERE EXISTS { {0} }) RETURN name",
    "CYPHER 25 LET x = [y IN [1] | COUNT { {0} }] RETURN x",
]
REACHING = [
    _LOAD,
    "LOAD CSV WITH HEADERS FROM 'LISTENER' AS line RETURN line",
    "load  csv from 'CANARY' as line return line",
    "LOAD/**/CSV FROM 'CANARY' AS line RETURN line",
    "LOAD // x\nCSV FROM 'CANARY' AS line RETURN line",
    "LO\\u0041D CSV FROM 'CANARY' AS line RETURN line",
    "WITH 'CANARY' AS at LOAD CSV FROM at AS line RETURN line",
    "CYPHER runtime=slotted LOAD CSV FROM 'LISTENER' AS line RETURN line",
    "CYPHER 25 RETURN 1 AS x NEXT LOAD CSV FROM 'LISTENER' AS line RETURN line",
    "RETURN [x IN [1] | COLLECT { lo\\u0061d/**/csv from 'LISTENER' as l RETURN l }] AS x",
    *(text.replace("{0}", _LOAD) for text in _WITHIN),
]
CALLS = [
    "CALL dbms.listConfig()",
    "CALL dbms.listConfig('password') YIELD value RETURN value",
    "CALL dbms.queryJmx('*:*')",
    "CALL dbms.components()",
    "CALL dbms.killConnection('bolt-1')",
    "CALL `dbms`.`components`()",
    "CALL dbms\n.components()",
    "CALL /* db.labels( */ dbms.components()",
    "CALL tx.setMetaData({a: 1})",
    "CALL db.clearQueryCaches()",
    "CALL db.resampleIndex('x')",
    "CALL db.stats.collect('QUERIES')",
    "CALL db.awaitIndexes()",
    "MATCH (n) CALL () { CALL dbms.components() YIELD name RETURN name } RETURN name",
    *(text.replace("{0}", _CALL) for text in _WITHIN),
]
NOT_THERE = [
    "CALL db.checkpoint()",
    "CALL apoc.load.json('CANARY')",
    "CALL apoc.cypher.runWrite('CREATE (:Bad)', {})",
    "CALL apoc.periodic.iterate('MATCH (n) RETURN n', 'DELETE n', {})",
    "CALL gds.graph.drop('x')",
    "CALL gds.graph.nodeProperties.write('x', ['y'])",
    "RETURN apoc.load.json('LISTENER')",
    "RETURN genai.vector.encode('x', 'OpenAI', {token: 'x'}) AS x",
]
COMMANDS = [
    "SHOW USERS",
    "SHOW CURRENT USER",
    "SHOW PRIVILEGES",
    "SHOW DATABASES",
    "SHOW DEFAULT DATABASE",
    "SHOW SETTINGS",
    "SHOW SERVERS",
    "SHOW TRANSACTIONS",
    "show transactions yield currentQuery return currentQuery",
    "TERMINATE TRANSACTION 'neo4j-transaction-1'",
    "SHOW TRANSACTIONS YIELD transactionId AS t TERMINATE TRANSACTIONS t YIELD message RETURN t",
    "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'b'",
    "ALTER USER neo4j SET PASSWORD 'longenough' CHANGE NOT REQUIRED",
    "CREATE USER bad SET PASSWORD 'longenough'",
    "DROP USER neo4j",
    "RENAME USER neo4j TO bad",
    "GRANT ROLE admin TO neo4j",
    "DENY READ {*} ON GRAPH * TO PUBLIC",
    "CREATE DATABASE bad",
    "DROP DATABASE neo4j",
    "STOP DATABASE neo4j",
    "CREATE ALIAS bad FOR DATABASE neo4j",
    "ALTER DATABASE neo4j SET ACCESS READ ONLY",
    "ALTER DATABASE neo4j SET DEFAULT LANGUAGE CYPHER 25",
    "USE system SHOW USERS",
    "USE other MATCH (n) RETURN n",
    "USE graph.byName('system') SHOW USERS",
    "CALL () { USE system SHOW USERS YIELD user RETURN user } RETURN user",
]

REFUSED = WRITES + SCHEMA + REACHING + CALLS + NOT_THERE + COMMANDS

# What the limits of time end: the server between two rows, or we where it is within an expression.
ENDLESS = [
    "UNWIND range(1, 1000000000) AS a UNWIND range(1, 1000000000) AS b RETURN sum(a * b) AS s",
    "MATCH p = (a)-[*]-(b) RETURN count(p) AS n",
    "MATCH (a), (b), (c), (d), (e), (f) RETURN count(a.strength * f.strength) AS n",
    "UNWIND [1, 2] AS x CALL (x) { UNWIND range(1, 1000000000) AS y RETURN sum(y) AS s }"
    " IN TRANSACTIONS RETURN s",
]
WITHIN_ONE_ROW = [
    "RETURN reduce(s = 0, i IN range(1, 150000000) | s + i % 7) AS s",
    "RETURN range(1, 30000000) AS numbers",
]

# What is a value wherever it stands, and nothing else.
INJECTIONS = [
    "x'}) DETACH DELETE n //",
    'x"}) DETACH DELETE n //',
    "x`) CREATE (:Bad) //",
    "\\u0027}) CREATE (:Bad) //",
    "'; CREATE (:Bad); //",
    "} RETURN 1 AS x UNION CREATE (:Bad) RETURN 1 AS x //",
    "$run",
    "\x00",
]
