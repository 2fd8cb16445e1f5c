/** The environment for commands that must never touch the Temporal or the stores that a person has set up. */
export function ownEnvironment() {
  const entries = Object.entries(process.env);
  return Object.fromEntries(entries.filter(([name]) => !/^TEMPORAL_|^LIFEBOAT_BLOCKSTORE_URI$/.test(name)));
}
