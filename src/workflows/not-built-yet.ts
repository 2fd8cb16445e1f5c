/**
 * The workflow types of the public interface that are not built yet. Without them, starting one would leave a workflow
 * whose task fails for ever; each refuses by its code instead.
 */
import { failure, workflowFailure } from './failures.ts';

function refuse(type: string): Promise<never> {
  return Promise.reject(workflowFailure(failure('NotBuiltYet', `the workflow ${type} is not built yet`)));
}

export function checkpoint(): Promise<never> {
  return refuse('checkpoint');
}

export function scheduleGrooms(): Promise<never> {
  return refuse('scheduleGrooms');
}
