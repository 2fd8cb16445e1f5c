import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFrom, tokenHolds } from '../src/source/copy-identity.ts';
import { EVERYTHING, isSameFilter, namespaceFilter } from '../src/source/filter.ts';
import { namespaceRule, splitNamespace } from '../src/source/namespaces.ts';
import { directUri, isDirect } from '../src/source/uri.ts';

test('only what means something on another set is copied', () => {
  const rules: Record<string, readonly string[]> = {
    copy: ['shop.things', 'shop.system.buckets.x', 'shop.system.js', 'admin.system.users', 'admin.system.roles', 'admin.system.version', 'config.settings', 'shop.system.keys', 'shop.transactions'],
    rebuild: ['shop.system.views', 'config.system.views'],
    empty: ['config.transactions', 'config.image_collection', 'config.system.indexBuilds', 'config.system.preimages'],
    skip: ['local.oplog.rs', 'local.mine', 'config.system.sessions', 'config.cache.chunks.a.b', 'shop.system.profile', 'admin.system.keys'],
  }; // prettier-ignore
  for (const [rule, namespaces] of Object.entries(rules)) {
    for (const ns of namespaces) {
      const { db, collection } = splitNamespace(ns);
      assert.equal(namespaceRule(db, collection, EVERYTHING), rule, ns);
    }
  }
});

test('what a pattern names is left out, and nothing beside it', () => {
  const filter = namespaceFilter([
    'logs.*',
    'shop.tmp_*',
    'shop.a.b',
    '*.cache',
    'shop.weather',
    'x.(y)+',
    'y.**',
    'z.tmp*',
  ]);
  const out = ['logs.a', 'logs.system.views', 'logs.system.buckets.w', 'logs.system.js', 'shop.tmp_', 'shop.tmp_a.b', 'shop.a.b', 'any.cache', 'shop.system.buckets.weather', 'shop.weather', 'x.(y)+', 'y.system.views', 'y.tmp.agg_out.1', 'z.tmp', 'z.tmp5']; // prettier-ignore
  const kept = ['log.s', 'logs2.a', 'shop.tmp', 'shop.a', 'shop.a.b.c', 'shop.axb', 'shop.system.views', 'shop.cached', 'admin.cache', 'config.cache', 'shop.weather2', 'x.yy', 'z.tmp.agg_out.1', 'z.tmpAb0de.renameCollection', 'z.tmpAb0de.convertToCapped.z']; // prettier-ignore
  const leavesOut = (ns: string): boolean => {
    const { db, collection } = splitNamespace(ns);
    return filter.leavesOut(db, collection);
  };
  assert.deepEqual([...out, ...kept].filter(leavesOut), out);
  assert.equal(namespaceRule('logs', 'system.views', filter), 'skip');
  assert.ok(isSameFilter(['a.b', 'c.d'], ['c.d', 'a.b', 'a.b']));
  assert.ok(!isSameFilter(['a.b', 'c.d'], ['a.b', 'a.b']) && !isSameFilter([], ['a.b']));
});

test('a namespace is split at its first dot', () => {
  assert.deepEqual(splitNamespace('a.b.c'), { db: 'a', collection: 'b.c' });
  assert.deepEqual(splitNamespace('a'), { db: 'a', collection: '' });
});

test('the URI of one member keeps credentials and TLS, and drops what finds a deployment', () => {
  const none = { tls: false };
  assert.equal(
    directUri('mongodb://u:p%40@a:1,b:2/db?replicaSet=rs0&tlsCAFile=/ca&readPreference=nearest', 'c:3', none),
    'mongodb://u:p%40@c:3/db?tlsCAFile=/ca&directConnection=true',
  );
  assert.equal(directUri('mongodb://a', 'c:3', none), 'mongodb://c:3/?directConnection=true');
  assert.equal(
    directUri('mongodb+srv://u:p@cluster.example/?retryWrites=true', 'c:3', { tls: true, authSource: 'admin' }),
    'mongodb://u:p@c:3/?retryWrites=true&tls=true&authSource=admin&directConnection=true',
  );
  assert.equal(directUri('http://a', 'c:3', none), undefined);
  assert.ok(isDirect('mongodb://a/?x=1&directConnection=true') && !isDirect('mongodb://a/?directConnection=false'));
});

test('a token outlives a restart only if a checkpoint had come past beginApplying', () => {
  const before = { lasting: 'data', passing: 'data/process1/1', stable: { t: 10, i: 1 } };
  const restarted = { ...before, passing: 'data/process2/1' };
  const early = readFrom('a:1', before, { t: 10, i: 2 });
  const late = readFrom('a:1', before, { t: 10, i: 1 });
  assert.ok(tokenHolds(early, 'a:1', before) && !tokenHolds(early, 'a:1', restarted));
  assert.ok(tokenHolds(late, 'a:1', before) && tokenHolds(late, 'a:1', restarted));
  assert.ok(!tokenHolds(late, 'b:1', before));
  assert.ok(!tokenHolds(late, 'a:1', { ...restarted, lasting: 'other data' }));
});
