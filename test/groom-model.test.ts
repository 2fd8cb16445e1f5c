/**
 * The protocol of snapshots, deletions and grooms (design decision 10) as a small machine, searched over every order of its
 * steps: no snapshot ever lacks a block. Each rule that is taken out of it breaks that, so none is there in vain.
 *
 * One block stands for all: nothing in the protocol looks at two.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';

const RULES = {
  claimsGrow: 'the claim of a newer lease stays',
  claimTakesDoom: 'a claim takes the doom of a block away',
  doomLooksAtClaim: 'a block that a newer lease has claimed is not doomed',
  waitsForLeases: 'leases older than the doom are waited for',
  looksAgain: 'manifests are read again after that',
  deletesByDoom: 'a block is deleted by (hash, doom)',
  rereadsHeaders: 'what was read of a manifest that is gone since is read again',
  deletionSeesLeases: 'a snapshot that a lease holds is not deleted',
  deletionRevokes: 'a deletion revokes a lease that has expired, and does not merely pass it over',
  parentSeenAgain: 'a parent is looked for once more under the lease',
  commitNeedsLease: 'a lease that was revoked commits nothing',
} as const;
type Rule = keyof typeof RULES;

interface Lease {
  readonly number: number;
  readonly holds: number | null;
  /** One that has expired may be renewed, until somebody revokes it. */
  readonly state: 'live' | 'expired' | 'revoked' | 'ended';
}

interface Manifest {
  readonly refers: boolean;
  /** The parts of what is gone may be gone, too. */
  readonly state: 'there' | 'marked' | 'gone';
}

/** A snapshot, a deletion or a groom: where it stands, and what it knows. */
interface Actor {
  readonly at: number;
  readonly needs?: boolean;
  readonly parent?: number | null;
  readonly lease?: number;
  readonly target?: number;
  readonly doom?: number;
  readonly listed?: readonly number[];
  readonly referred?: boolean;
}

interface World {
  readonly counter: number;
  readonly block: { readonly claim: number; readonly doom: number | null } | null;
  readonly leases: readonly Lease[];
  readonly manifests: readonly Manifest[];
  readonly snapshots: readonly Actor[];
  readonly deletions: readonly Actor[];
  readonly groom: Actor;
}

const DONE = 99;

function newest({ manifests }: World): number | null {
  const there = manifests.flatMap(({ state }, n) => (state === 'there' ? [n] : []));
  return there.at(-1) ?? null;
}

function replaced<T>(list: readonly T[], at: number, value: T): T[] {
  return list.map((one, n) => (n === at ? value : one));
}

class Machine {
  readonly #without: Rule | undefined;

  constructor(without?: Rule) {
    this.#without = without;
  }

  #holds(rule: Rule): boolean {
    return rule !== this.#without;
  }

  /** Every world that one step of anybody leads to. A step that is never taken again is a crash. */
  *next(world: World): Generator<World> {
    for (const [n, lease] of world.leases.entries()) {
      // Whoever is slow or dead may lose it at any moment, or come back.
      const after = lease.state === 'live' ? ['expired'] : lease.state === 'expired' ? ['live', 'revoked'] : [];
      for (const state of after as Lease['state'][]) {
        yield { ...world, leases: replaced(world.leases, n, { ...lease, state }) };
      }
    }
    for (const [n, actor] of world.snapshots.entries()) {
      const stepped = this.#snapshot(world, actor);
      if (stepped) yield { ...stepped.world, snapshots: replaced(world.snapshots, n, stepped.actor) };
    }
    for (const [n, actor] of world.deletions.entries()) {
      for (const stepped of this.#deletion(world, actor)) {
        yield { ...stepped.world, deletions: replaced(world.deletions, n, stepped.actor) };
      }
    }
    const groomed = this.#groom(world, world.groom);
    if (groomed) yield { ...groomed.world, groom: groomed.actor };
  }

  #snapshot(world: World, actor: Actor): { readonly world: World; readonly actor: Actor } | undefined {
    const { at, needs = false, parent = null, lease: number = 0 } = actor;
    switch (at) {
      case 0:
        return { world, actor: { ...actor, at: 1, parent: newest(world) } };
      case 1: {
        const lease: Lease = { number: world.counter + 1, holds: parent, state: 'live' };
        const leases = [...world.leases, lease];
        return { world: { ...world, counter: lease.number, leases }, actor: { ...actor, at: 2, lease: lease.number } };
      }
      case 2: {
        const isThere = parent !== null && world.manifests[parent]?.state === 'there';
        const held = isThere || !this.#holds('parentSeenAgain') ? parent : null;
        return { world, actor: { ...actor, at: 3, parent: held } };
      }
      case 3: {
        const stepped = { ...actor, at: 4 };
        if (!needs) return { world, actor: stepped };
        const isOfParent = parent !== null && world.manifests[parent]?.refers === true;
        if (world.block && isOfParent) return { world, actor: stepped };
        const kept = this.#holds('claimTakesDoom') ? null : (world.block?.doom ?? null);
        const claim = this.#holds('claimsGrow') ? Math.max(world.block?.claim ?? 0, number) : number;
        return { world: { ...world, block: { claim, doom: kept } }, actor: stepped };
      }
      case 4: {
        const own = world.leases.findIndex((lease) => lease.number === number);
        const lease = world.leases[own];
        const ended = { ...actor, at: DONE };
        if (!lease || (lease.state === 'revoked' && this.#holds('commitNeedsLease'))) return { world, actor: ended };
        const leases = replaced(world.leases, own, { ...lease, state: 'ended' as const });
        const manifests = [...world.manifests, { refers: needs, state: 'there' as const }];
        return { world: { ...world, leases, manifests }, actor: ended };
      }
      default:
        return undefined;
    }
  }

  *#deletion(world: World, actor: Actor): Generator<{ readonly world: World; readonly actor: Actor }> {
    const { at, target = 0 } = actor;
    const manifest = world.manifests[target];
    if (at === 0) {
      const last = newest(world);
      for (const [n, { state }] of world.manifests.entries()) {
        // The last good one is pinned.
        if (state === 'there' && n !== last) yield { world, actor: { at: 1, target: n } };
      }
    } else if (at === 1 && manifest) {
      const isMarked = manifest.state === 'there';
      const manifests = isMarked
        ? replaced(world.manifests, target, { ...manifest, state: 'marked' as const })
        : world.manifests;
      yield { world: { ...world, manifests }, actor: { ...actor, at: isMarked ? 2 : DONE } };
    } else if (at === 2 && manifest) {
      const isHeld = world.leases.some(({ holds, state }) => holds === target && state === 'live');
      if (!isHeld || !this.#holds('deletionSeesLeases')) {
        const revokes = this.#holds('deletionRevokes');
        const leases = world.leases.map((lease) =>
          revokes && lease.holds === target && lease.state === 'expired'
            ? { ...lease, state: 'revoked' as const }
            : lease,
        );
        yield { world: { ...world, leases }, actor: { ...actor, at: 3 } };
      } else {
        const manifests = replaced(world.manifests, target, { ...manifest, state: 'there' as const });
        yield { world: { ...world, manifests }, actor: { ...actor, at: DONE } };
      }
    } else if (at === 3 && manifest) {
      const manifests = replaced(world.manifests, target, { ...manifest, state: 'gone' as const });
      yield { world: { ...world, manifests }, actor: { ...actor, at: DONE } };
    }
  }

  #groom(world: World, actor: Actor): { readonly world: World; readonly actor: Actor } | undefined {
    const { at, doom = 0, listed = [], referred = false } = actor;
    const go = (to: number, more: Partial<Actor> = {}, changed: Partial<World> = {}) => ({
      world: { ...world, ...changed },
      actor: { ...actor, at: to, ...more },
    });
    switch (at) {
      case 0:
        return go(1, { doom: world.counter + 1 }, { counter: world.counter + 1 });
      case 1:
      case 6:
        return go(at + 1, { listed: world.manifests.flatMap(({ state }, n) => (state === 'gone' ? [] : [n])) });
      case 2:
      case 7:
        return go(at + 1, {
          referred: listed.some((n) => world.manifests[n]?.state !== 'gone' && world.manifests[n]?.refers === true),
        });
      case 3:
      case 8: {
        const isAllThere = listed.every((n) => world.manifests[n]?.state !== 'gone');
        return isAllThere || !this.#holds('rereadsHeaders') ? go(at + 1, { listed: [] }) : go(at - 2);
      }
      case 4: {
        const { block } = world;
        const isDoomed = block && !referred && (block.claim < doom || !this.#holds('doomLooksAtClaim'));
        return go(5, {}, isDoomed ? { block: { ...block, doom } } : {});
      }
      case 5: {
        const isOpen = ({ state }: Lease): boolean => state === 'live' || state === 'expired';
        const isWaiting = world.leases.some((lease) => lease.number < doom && isOpen(lease));
        if (isWaiting && this.#holds('waitsForLeases')) return undefined;
        return go(this.#holds('looksAgain') ? 6 : 9);
      }
      case 9: {
        const { block } = world;
        const isDoomed = block?.doom === doom || !this.#holds('deletesByDoom');
        if (!block || !isDoomed) return go(DONE);
        return go(DONE, {}, { block: referred ? { ...block, doom: null } : null });
      }
      default:
        return undefined;
    }
  }
}

const IDLE = { leases: [], groom: { at: 0 } } as const;

/** What there is at first, and who works at it. */
const BEGINS: Readonly<Record<string, World>> = {
  'a block that nothing refers to, and two snapshots that need it': {
    ...IDLE,
    counter: 1,
    block: { claim: 1, doom: null },
    manifests: [{ refers: false, state: 'there' }],
    snapshots: [
      { at: 0, needs: true },
      { at: 0, needs: true },
    ],
    deletions: [{ at: 0 }],
  },
  'a snapshot that is deleted, one that needs its block and one that does not': {
    ...IDLE,
    counter: 1,
    block: { claim: 1, doom: null },
    manifests: [{ refers: true, state: 'there' }],
    snapshots: [
      { at: 0, needs: true },
      { at: 0, needs: false },
    ],
    deletions: [{ at: 0 }],
  },
};

interface Searched {
  readonly worlds: number;
  /** A world in which a snapshot lacks its block. */
  readonly broken: World | undefined;
  /** In some the block is deleted: a groom that never deletes anything is easily safe. */
  readonly deleted: boolean;
}

/** The same for two worlds that differ in nothing. */
function keyOf({ counter, block, leases, manifests, snapshots, deletions, groom }: World): string {
  const ofActor = ({ at, parent, lease, target, doom, listed, referred }: Actor): string =>
    `${at},${parent},${lease},${target},${doom},${listed?.join('.')},${referred}`;
  return [
    counter,
    block && `${block.claim},${block.doom}`,
    leases.map(({ number, holds, state }) => `${number},${holds},${state}`).join(';'),
    manifests.map(({ refers, state }) => `${refers},${state}`).join(';'),
    snapshots.map(ofActor).join(';'),
    deletions.map(ofActor).join(';'),
    ofActor(groom),
  ].join('|');
}

function search(machine: Machine, begin: World): Searched {
  const seen = new Set([keyOf(begin)]);
  const waiting: World[] = [begin];
  let deleted = false;
  for (let world = waiting.pop(); world; world = waiting.pop()) {
    const { block, manifests } = world;
    if (!block && manifests.some(({ refers, state }) => refers && state !== 'gone')) {
      return { worlds: seen.size, broken: world, deleted };
    }
    deleted ||= !block;
    for (const next of machine.next(world)) {
      const key = keyOf(next);
      if (seen.has(key)) continue;
      seen.add(key);
      waiting.push(next);
    }
  }
  return { worlds: seen.size, broken: undefined, deleted };
}

for (const [what, begin] of Object.entries(BEGINS)) {
  test(`in no order of all their steps and a groom's does a snapshot lack a block: ${what}`, (t) => {
    const { worlds, broken, deleted } = search(new Machine(), begin);
    t.diagnostic(`${worlds} worlds`);
    assert.equal(broken, undefined, JSON.stringify(broken));
    assert.equal(deleted, true);
  });
}

for (const [rule, text] of Object.entries(RULES)) {
  test(`without this a snapshot may lack a block: ${text}`, () => {
    const found = Object.values(BEGINS).some((begin) => search(new Machine(rule as Rule), begin).broken !== undefined);
    assert.equal(found, true);
  });
}
