/**
 * What a deployment leaves out of its backup: the `exclude` of its configuration. Pure.
 *
 * A pattern names a database and a collection, view or time-series collection of it, with `*` for any run of characters.
 */

/** The server's own databases: users, roles and the like. No pattern speaks of them. */
const ALWAYS_IN = new Set(['admin', 'config', 'local']);

/** What the collection is called that holds the documents of a time series, before the name of that. */
export const BUCKETS = 'system.buckets.';

/**
 * What a server calls a collection for a while: that of an aggregation's `$out` or a map-reduce, of a rename to another
 * database or of `convertToCapped`. It is renamed to what it is meant to be, and counts by that name.
 */
const TEMPORARY = /^tmp(\.agg_out\.|\.mr\.|[A-Za-z0-9]{5}\.)/;

export interface NamespaceFilter {
  readonly patterns: readonly string[];
  /**
   * Whether a collection or a view is no part of the backup. What is behind a time-series collection goes as that does;
   * the collection of a database's views stays unless all of that database is left out.
   */
  leavesOut(db: string, name: string): boolean;
}

interface Pattern {
  readonly db: RegExp;
  readonly name: RegExp;
  /** Every collection of the database. */
  readonly isWhole: boolean;
}

/** Names that are remembered with the answer: entries ask for the same ones again and again. */
const MOST_REMEMBERED = 10_000;

export function namespaceFilter(patterns: readonly string[]): NamespaceFilter {
  const parsed = patterns.map(parse);
  const known = new Map<string, boolean>();
  const isLeftOut = (db: string, name: string): boolean => {
    const shown = name.startsWith(BUCKETS) ? name.slice(BUCKETS.length) : name;
    const isOfServer = TEMPORARY.test(shown) || (name.startsWith('system.') && shown === name);
    return parsed.some((one) => one.db.test(db) && (one.isWhole || (!isOfServer && one.name.test(shown))));
  };
  return {
    patterns,
    leavesOut: (db, name) => {
      if (parsed.length === 0 || ALWAYS_IN.has(db)) return false;
      const namespace = `${db}.${name}`;
      const before = known.get(namespace);
      if (before !== undefined) return before;
      if (known.size >= MOST_REMEMBERED) known.clear();
      const found = isLeftOut(db, name);
      known.set(namespace, found);
      return found;
    },
  };
}

/** Of a deployment that leaves nothing out. */
export const EVERYTHING = namespaceFilter([]);

/** Whether two lists say the same. */
export function isSameFilter(a: readonly string[], b: readonly string[]): boolean {
  const all = new Set([...a, ...b]);
  return all.size === new Set(a).size && all.size === new Set(b).size;
}

function parse(pattern: string): Pattern {
  const dot = pattern.indexOf('.');
  const [db, name] = [pattern.slice(0, dot), pattern.slice(dot + 1)];
  return { db: glob(db), name: glob(name), isWhole: /^\*+$/.test(name) };
}

function glob(text: string): RegExp {
  const parts = text.split(/\*+/).map((part) => part.replaceAll(/[\\^$.|?+()[\]{}]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's');
}
