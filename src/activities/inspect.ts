/** What `lifeboat doctor` asks a daemon: the checks of a backup from the machine that it runs on. */
import { hostname } from 'node:os';
import { checkStores } from '../preflight/blockstore.ts';
import { checkDeployment, withoutSource } from '../preflight/deployment.ts';
import { checkOf, refused, type Finding } from '../preflight/finding.ts';
import { inTime, type Fact } from '../preflight/in-time.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Claim, Inspection } from '../shared/messages.ts';
import type { Source } from '../source/connect.ts';
import { ownerOf, placed } from '../stores/claims.ts';
import type { Stores } from '../stores/connect.ts';
import type { StepContext } from '../steps/context.ts';
import type { Daemon } from './daemon.ts';

/** How long stores or a source may take to be opened, in milliseconds; the driver looks for a member for eight seconds. */
const OPEN_LIMIT_MS = 15_000;
/** How long the owner is looked for before whoever is asked does the looking. */
const OWNER_LIMIT_MS = 5_000;

/** The daemon that owns the deployment; without stores to tell it, the one that is asked. */
export async function claimInspection(ctx: StepContext, daemon: Daemon, deployment: string | null): Promise<Claim> {
  if (deployment === null) return placed(daemon.id, null);
  const look = { what: 'looking for its owner', side: 'store', limit: OWNER_LIMIT_MS, signal: ctx.signal } as const;
  const owner = await inTime(look, async () => ownerOf(await daemon.stores(), deployment));
  return placed(('value' in owner ? owner.value : undefined) ?? daemon.id, null);
}

/**
 * Looks at the stores and, if one is named, at a deployment. It ends within about half a minute whatever does not answer.
 * It writes nothing but the probe of the stores.
 * @throws the signal's reason when it is aborted
 */
export async function inspect(ctx: StepContext, daemon: Daemon, deployment: string | null): Promise<Inspection> {
  const { signal } = ctx;
  const opening = { limit: OPEN_LIMIT_MS, signal };
  const [stores, source] = await Promise.all([
    inTime({ ...opening, what: 'connecting to the blockstore', side: 'store' }, () => daemon.stores()),
    deployment === null
      ? undefined
      : inTime({ ...opening, what: `connecting to ${deployment}`, side: 'source' }, () =>
          daemon.openSource(deployment),
        ),
  ]);
  const opened = source && 'value' in source ? source.value : undefined;
  try {
    const [inStores, ofDeployment] = await Promise.all([
      'error' in stores ? refused('blockstore', stores.error) : checkStores(stores.value, opened, true, signal),
      deployment === null || !source ? [] : checksOf(ctx, daemon, deployment, source, stores),
    ]);
    const checks = [checkOf(inStores, null), ...ofDeployment.map((finding) => checkOf(finding, deployment))];
    return { daemon: daemon.id, host: hostname(), checks };
  } finally {
    await opened?.close();
  }
}

async function checksOf(
  { signal }: StepContext,
  daemon: Daemon,
  name: string,
  source: Fact<Source>,
  stores: Fact<Stores>,
): Promise<Finding[]> {
  const wishes = (await daemon.config()).deployments.get(name);
  if (!wishes) return [refused('configuration', unknownHere(daemon, name))];
  if ('error' in source) return withoutSource(source.error, wishes, true);
  const begun = 'value' in stores && (await hasBegun(stores.value, name, signal));
  return checkDeployment({ source: source.value, wishes, machine: daemon.machine(name), begun }, signal);
}

function unknownHere({ id }: Daemon, name: string): LifeboatError {
  return new LifeboatError('UnknownDeployment', `the configuration of daemon ${id} has no deployment ${name}`);
}

async function hasBegun(stores: Stores, deployment: string, signal: AbortSignal): Promise<boolean> {
  const look = { what: `reading the state of ${deployment}`, side: 'store', limit: OWNER_LIMIT_MS, signal } as const;
  const record = await inTime(look, () => stores.members.findOne({ deployment }, { projection: { sync: 1 } }));
  return 'value' in record && Boolean(record.value?.sync);
}
