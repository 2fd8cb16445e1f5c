/** Commands whose replies have a known shape. */
import type { Db, Document, RunCommandOptions } from 'mongodb';

/** What is read of the replies of a few commands; nothing is checked, the server is taken at its word. */
export interface FirstBatch<T> {
  readonly cursor: { readonly firstBatch: readonly T[] };
}

/** Runs a command whose reply is a `T`. @throws the driver's errors */
export async function run<T extends object>(db: Db, command: Document, options?: RunCommandOptions): Promise<T> {
  return (await db.command(command, options)) as T;
}
