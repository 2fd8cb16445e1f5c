/** Running several things at once inside a workflow. */
import { CancellationScope, isCancellation } from '@temporalio/workflow';

/**
 * Runs all of them and waits until each has ended. When one fails the others are cancelled, and its failure is thrown:
 * nothing started here outlives the call.
 */
export async function together(works: readonly (() => Promise<void>)[]): Promise<void> {
  const scope = new CancellationScope({ cancellable: true });
  await scope.run(async () => {
    const outcomes = await Promise.allSettled(
      works.map(async (work) => {
        try {
          await work();
        } catch (error) {
          scope.cancel();
          throw error;
        }
      }),
    );
    const failures = outcomes.flatMap((outcome): unknown[] => (outcome.status === 'rejected' ? [outcome.reason] : []));
    if (failures.length === 0) return;
    // The cancellations that a failure caused say nothing about what happened.
    throw failures.find((error) => !isCancellation(error)) ?? failures[0];
  });
}
