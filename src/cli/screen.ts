/** A stream that people look at: a terminal, whose last lines can be drawn anew, or anything else, which only grows. */
import { styleText } from 'node:util';
import { createLogUpdate } from 'log-update';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

export interface Screen {
  /** Whether what was drawn can be drawn anew. */
  readonly isLive: boolean;
  /** Whether bars of blocks come out as such. */
  readonly unicode: boolean;
  /** How wide a line may be. */
  columns(): number;
  /** In colour where the stream has any and nobody said no to it. */
  paint(style: Style, text: string): string;
  /** Replaces what was drawn before. On a screen that is not live nothing is drawn. */
  draw(lines: readonly string[]): void;
  /** Takes away what was drawn, or leaves it there for good. */
  end(keep: boolean): void;
  /** Adds a line. */
  line(text: string): void;
}

const FALLBACK_COLUMNS = 80;

type Stream = Pick<NodeJS.WriteStream, 'isTTY' | 'columns'> & NodeJS.WritableStream;

export function screenOf(stream: Stream, env: NodeJS.ProcessEnv): Screen {
  // Narrower than this there is nothing to be drawn on.
  const isLive = stream.isTTY && env['TERM'] !== 'dumb' && stream.columns >= 20;
  const update = isLive ? createLogUpdate(stream) : undefined;
  return {
    isLive,
    unicode: /utf-?8/i.test(env['LC_ALL'] ?? env['LC_CTYPE'] ?? env['LANG'] ?? ''),
    columns: () => (stream.isTTY ? stream.columns : FALLBACK_COLUMNS),
    paint: (style, text) => styleText(style, text, { stream }),
    draw: (lines) => update?.(lines.join('\n')),
    end: (keep) => {
      if (keep) update?.done();
      else update?.clear();
      update?.done();
    },
    line: (text) => void stream.write(`${text}\n`),
  };
}
