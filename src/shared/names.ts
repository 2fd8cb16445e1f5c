/** Names that the outside relies on (contract.md): task queues, workflow ids, search attributes. */

export const TASK_QUEUE = 'lifeboat';

/** The queue of one daemon: all work on a source, a store or a head runs on its owner's. */
export function daemonTaskQueue(daemonId: string): string {
  return `lifeboat.daemon.${daemonId}`;
}

export const DEPLOYMENT_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

export const SearchAttribute = {
  deployment: 'LifeboatDeployment',
  phase: 'LifeboatPhase',
} as const;

/** `temporal.api.enums.v1.IndexedValueType` */
const KEYWORD = 2;

/** Search attributes that a namespace lacks, by its own list of custom ones. */
export function missingSearchAttributes(registered: Readonly<Record<string, unknown>>): string[] {
  return Object.values(SearchAttribute).filter((name) => Number(registered[name]) !== KEYWORD);
}

export function backupWorkflowId(deployment: string): string {
  return `backup/${deployment}`;
}

/** Ids of workflows that are not one to a deployment begin with their type and deployment. */
export function workflowIdOf(
  type:
    | 'snapshot'
    | 'deleteSnapshot'
    | 'holdSnapshot'
    | 'releaseSnapshot'
    | 'applyRetention'
    | 'restore'
    | 'verifySnapshot'
    | 'doctor'
    | 'retireDaemon'
    | 'purge',
  deployment: string,
  unique: string,
): string {
  return `${type}/${deployment}/${unique}`;
}

/** One groom runs at a time. */
export function groomWorkflowId(): string {
  return 'groom';
}

/** The deployment that a snapshot of that id is of; undefined when it is no id of a snapshot. */
export function deploymentOfSnapshot(id: string): string | undefined {
  return /^(.+)-\d{8}T\d{6}Z-[0-9a-f]{6}$/.exec(id)?.[1];
}

/** The key of one member in the stores and the name of its folder below a daemon's `heads/`. */
export function memberKey(deployment: string, member: string): string {
  return `${deployment}/${member}`;
}

/** A pattern of namespaces that a backup leaves out: `DATABASE.COLLECTION`, but none of the server's own databases and collections. */
export const EXCLUDE_PATTERN = /^(?!(?:admin|config|local)\.)[^\s."$/\\]+\.(?!system\.)[^\0$]+$/;
