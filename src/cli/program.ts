/** The commands, their flags and their help. What a command does is loaded when it is run. */
import { Command, InvalidArgumentError, type CommandUnknownOpts } from '@commander-js/extra-typings';
import { parseDuration } from '../config/units.ts';
import { LifeboatError } from '../shared/errors.ts';
import { DEPLOYMENT_NAME } from '../shared/names.ts';
import type { CliContext, GlobalFlags } from './context.ts';
import type { Outcome } from './outcome.ts';

/** A command that was chosen, with its arguments. What it has shown itself it does not answer; one that only an interrupt ends says that. */
export type Chosen = (context: CliContext) => Promise<Outcome | 'interrupted' | undefined>;

export interface Parsed {
  readonly flags: GlobalFlags;
  readonly chosen: Chosen;
}

export interface ProgramOptions {
  readonly version: string;
  /** What the help says of the Temporal that the commands talk to. */
  readonly temporal: string;
  /** Where help goes. */
  readonly write: (text: string) => void;
}

const WATCH_INTERVAL_MS = 2_000;
const NO_TEMPORAL = 'Does not talk to Temporal.';

/**
 * Reads the words of a command line.
 * @throws CommanderError for help, the version and wrong usage; LifeboatError `NotBuiltYet`
 */
export function parseCommandLine(words: readonly string[], options: ProgramOptions): Parsed {
  let chosen: Chosen | undefined;
  const { program } = buildProgram(options, (command) => {
    chosen = command;
  });
  program.parse(words, { from: 'user' });
  if (!chosen) throw new LifeboatError('BadUsage', 'name a command');
  return { flags: program.opts(), chosen };
}

/** What the help of a command says beside its words and flags. */
export interface HelpNote {
  readonly example: string;
  /** What it has to do with Temporal, and more. */
  readonly note: string;
}

/** The command line itself, for those who describe it. */
export function describedProgram(temporal: string): {
  readonly program: CommandUnknownOpts;
  readonly notes: ReadonlyMap<unknown, HelpNote>;
} {
  return buildProgram({ version: '', temporal, write: () => undefined }, () => undefined);
}

function deploymentName(text: string): string {
  if (DEPLOYMENT_NAME.test(text)) return text;
  throw new InvalidArgumentError('A name has a-z, 0-9 and "-", at most 63, and does not begin with "-".');
}

function durationFlag(text: string): number {
  const quantity = parseDuration(text);
  if ('value' in quantity) return quantity.value;
  throw new InvalidArgumentError(`It ${quantity.wrong}.`);
}

function shareFlag(text: string): number {
  const share = /^\d+(?:\.\d+)?%$/.test(text) ? Number(text.slice(0, -1)) / 100 : NaN;
  if (share > 0 && share <= 1) return share;
  throw new InvalidArgumentError('It must be above 0% and up to 100%, such as 10%.');
}

const notBuiltYet = (what: string): Chosen => {
  return () => Promise.reject(new LifeboatError('NotBuiltYet', `${what} is not built yet`));
};

function buildProgram({ version, temporal, write }: ProgramOptions, choose: (command: Chosen) => void) {
  const program = new Command('lifeboat')
    .description('Durable backups of MongoDB, run by Temporal workflows')
    .option('--config <file>', 'the configuration (default: lifeboat.yaml in the working directory)')
    .option('--home <dir>', 'where `up` keeps its state (default: .lifeboat in the working directory)')
    .option('--json', 'one JSON document on standard output; text for people goes to standard error')
    .option('--no-color', 'no colours')
    .version(version, '--version', 'the version of Lifeboat')
    .helpOption('-h, --help', 'this help')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeOut: write, writeErr: write, outputError: () => undefined })
    .exitOverride();

  const notes = new Map<unknown, HelpNote>();
  const help = (
    command: { addHelpText(position: 'after', text: string): unknown },
    example: string,
    talks = temporal,
  ): void => {
    notes.set(command, { example, note: talks });
    command.addHelpText('after', `\nExample:\n  $ lifeboat ${example}\n\n${talks}`);
  };
  const group = (name: string, description: string, example: string) => {
    const command = program.command(name).description(description);
    help(command, example);
    return command;
  };
  help(program, 'backup status');

  const up = program
    .command('up')
    .description('start what is missing of the embedded Temporal, blockstore and worker')
    .option('--detach', 'return once all of them answer; without it Ctrl-C stops them')
    .action(({ detach }) =>
      choose(async (context) => (await import('./commands/servers.ts')).startUp(context, detach === true)),
    );
  help(up, 'up --detach', 'Runs a Temporal of its own, with its state under --home.');

  const down = program
    .command('down')
    .description('stop what `up` started; its state is kept')
    .action(() => choose(async (context) => (await import('./commands/servers.ts')).stopUp(context)));
  help(down, 'down', 'Stops the embedded Temporal of --home.');

  const worker = program
    .command('worker')
    .description("run a worker: this daemon's activities, and workflows")
    .action(() => choose(async (context) => (await import('./commands/servers.ts')).runWorkerHere(context)));
  help(worker, 'worker --config /etc/lifeboat.yaml');

  const doctor = program
    .command('doctor')
    .description('check everything that a backup needs, within a minute')
    .argument('[name]', 'the deployment; without it, all of them', deploymentName)
    .action((name) => choose(async (context) => (await import('./commands/doctor.ts')).examine(context, name)));
  help(doctor, 'doctor shop', `${temporal} A worker, if one answers, looks from its own machine.`);

  addDeployments();
  addBackup();
  addSnapshots();
  addRetention();
  addRestores();
  addValidations();
  addDaemons();
  addPurge();
  addGroom();
  addExplain();
  addUnbuilt();
  return { program, notes };

  function addDeployments(): void {
    const deployments = group('deployments', 'what can be backed up: the configuration file', 'deployments list');
    const add = deployments
      .command('add')
      .description('add a deployment to the configuration; a running worker sees it without a restart')
      .argument('<name>', 'its name', deploymentName)
      .option('--uri <uri>', 'its connection string; it then stands in the file, with its password')
      .option('--uri-file <file>', 'a file, on the machine of the worker, that holds the connection string')
      .option('--uri-env <variable>', 'a variable, in the environment of the worker, that holds it')
      .option('--uri-command', 'a program, run by the worker without a shell, that prints it: stands behind a --')
      .argument('[command...]', 'the program of --uri-command, and its arguments')
      .action((name, command, { uriCommand, ...flags }) => {
        const given = [flags.uri, flags.uriFile, flags.uriEnv, uriCommand].filter((value) => value !== undefined);
        if (given.length !== 1) {
          throw new LifeboatError(
            'BadUsage',
            'deployments add needs exactly one of --uri, --uri-file, --uri-env and --uri-command',
          );
        }
        if (!uriCommand && command.length > 0) {
          throw new LifeboatError(
            'BadUsage',
            'deployments add takes one name; words behind it belong to --uri-command',
          );
        }
        const source = uriCommand ? { uriCommand: command } : flags;
        choose(async (context) => (await import('./commands/deployments.ts')).addDeployment(context, name, source));
      });
    help(add, 'deployments add shop --uri-env SHOP_URI', NO_TEMPORAL);
    const list = deployments
      .command('list')
      .description('the deployments of the configuration, without any secret')
      .action(() => choose(async (context) => (await import('./commands/deployments.ts')).listDeployments(context)));
    help(list, 'deployments list', NO_TEMPORAL);
    const remove = deployments
      .command('remove')
      .description('take a deployment out of the configuration; its snapshots stay')
      .argument('<name>', 'its name', deploymentName)
      .action((name) =>
        choose(async (context) => (await import('./commands/deployments.ts')).removeDeployment(context, name)),
      );
    help(remove, 'deployments remove shop');
  }

  function addBackup(): void {
    const backup = group(
      'backup',
      'the backup of a deployment: begun, held, ended, looked at',
      'backup start shop --wait',
    );
    const start = backup
      .command('start')
      .description('begin a backup: initial sync, then routine operation')
      .argument('<name>', 'the deployment', deploymentName)
      .option('--wait', 'return when its phase is routine')
      .option('--timeout <duration>', 'wait no longer than this, such as 30m; the work goes on', durationFlag)
      .action((name, flags) => {
        requireWait(flags);
        choose(async (context) => (await import('./commands/backup.ts')).startBackup(context, name, flags));
      });
    help(start, 'backup start shop --wait --timeout 2h');
    const updates = [
      ['pause', 'stop reading from the source, and keep everything', true],
      ['resume', 'go on after a pause, or try again after a problem', false],
      ['resync', 'begin a new initial sync; snapshots stay', true],
      ['stop', 'end the backup; snapshots stay', false],
    ] as const;
    for (const [update, description, takesReason] of updates) {
      const command = backup
        .command(update)
        .description(description)
        .argument('<name>', 'the deployment', deploymentName);
      if (takesReason) command.option('--reason <text>', 'why, for those who look at it later');
      command.action((name, flags: { readonly reason?: string }) =>
        choose(async (context) =>
          (await import('./commands/backup.ts')).updateBackup(context, update, name, flags.reason),
        ),
      );
      help(command, takesReason ? `backup ${update} shop --reason "new disks"` : `backup ${update} shop`);
    }
    const status = backup
      .command('status')
      .description('how it stands, read from the stores alone')
      .argument('[name]', 'the deployment; without it, all of them', deploymentName)
      .option('--watch', 'show it again and again, until Ctrl-C (exit code 130)')
      .option('--interval <duration>', 'how often with --watch (default: 2s)', durationFlag)
      .action((name, { watch, interval }) => {
        if (interval !== undefined && !watch) throw new LifeboatError('BadUsage', '--interval goes with --watch');
        choose(async (context) =>
          watch
            ? (await import('./commands/watch.ts')).watchStatus(context, name, interval ?? WATCH_INTERVAL_MS)
            : (await import('./commands/backup.ts')).showStatus(context, name),
        );
      });
    const watching =
      'With --watch a terminal is drawn anew; anything else gets a line for each backup and, with --json, one JSON\n' +
      'document in a line each time: a status, or an error while the stores do not answer.';
    help(
      status,
      'backup status shop --watch',
      `${watching}\n\n${NO_TEMPORAL} It answers from the stores, whether or not a worker runs.`,
    );
  }

  function addSnapshots(): void {
    const snapshots = group('snapshots', 'copies of a deployment at an exact optime', 'snapshots list shop');
    const create = snapshots
      .command('create')
      .description("take a snapshot, at or after the source's majority optime now")
      .argument('<name>', 'the deployment', deploymentName)
      .option('--wait', 'return when it is stored')
      .option('--timeout <duration>', 'wait no longer than this, such as 30m; the work goes on', durationFlag)
      .action((name, flags) => {
        requireWait(flags);
        choose(async (context) => (await import('./commands/snapshots.ts')).createSnapshot(context, name, flags));
      });
    help(create, 'snapshots create shop --wait');
    const list = snapshots
      .command('list')
      .description('the snapshots there are')
      .argument('[name]', 'of one deployment', deploymentName)
      .action((name) =>
        choose(async (context) => (await import('./commands/snapshots.ts')).showSnapshots(context, name)),
      );
    help(list, 'snapshots list shop', NO_TEMPORAL);
    const show = snapshots
      .command('show')
      .description('one snapshot')
      .argument('<id>', 'its id')
      .action((id) => choose(async (context) => (await import('./commands/snapshots.ts')).showSnapshot(context, id)));
    help(show, 'snapshots show shop-20260101T000000Z-1a2b3c', NO_TEMPORAL);
    const remove = snapshots
      .command('delete')
      .description('delete a snapshot; its space is freed by `groom`')
      .argument('<id>', 'its id')
      .option('--timeout <duration>', 'wait no longer than this', durationFlag)
      .action((id, { timeout }) =>
        choose(async (context) => (await import('./commands/snapshots.ts')).deleteSnapshot(context, id, timeout)),
      );
    help(remove, 'snapshots delete shop-20260101T000000Z-1a2b3c');
    const hold = snapshots
      .command('hold')
      .description('hold a snapshot: nobody deletes it until it is released')
      .argument('<id>', 'its id')
      .option('--reason <text>', 'why, for those who look at it later')
      .option('--timeout <duration>', 'wait no longer than this', durationFlag)
      .action((id, { reason, timeout }) =>
        choose(async (context) =>
          (await import('./commands/snapshots.ts')).holdSnapshot(context, id, { hold: true, reason }, timeout),
        ),
      );
    help(hold, 'snapshots hold shop-20260101T000000Z-1a2b3c --reason "audit of 2026"');
    const release = snapshots
      .command('release')
      .description('take the hold of a snapshot back')
      .argument('<id>', 'its id')
      .option('--timeout <duration>', 'wait no longer than this', durationFlag)
      .action((id, { timeout }) =>
        choose(async (context) =>
          (await import('./commands/snapshots.ts')).holdSnapshot(context, id, { hold: false }, timeout),
        ),
      );
    help(release, 'snapshots release shop-20260101T000000Z-1a2b3c');
    const verify = snapshots
      .command('verify')
      .description('read every block of a snapshot and check it; waits for the result')
      .argument('<id>', 'its id')
      .option('--sample <share>', 'read only this share of its blocks, such as 10%, drawn anew each time', shareFlag)
      .option('--wait', 'it always waits')
      .option('--timeout <duration>', 'wait no longer than this, such as 30m; the work goes on', durationFlag)
      .action((id, flags) =>
        choose(async (context) => (await import('./commands/snapshots.ts')).verifySnapshot(context, id, flags)),
      );
    help(verify, 'snapshots verify shop-20260101T000000Z-1a2b3c');
  }

  function addRetention(): void {
    const retention = group('retention', 'which snapshots are kept, and for how long', 'retention show shop');
    const show = retention
      .command('show')
      .description('what each snapshot is kept for, and which would go; deletes nothing')
      .argument('<name>', 'the deployment', deploymentName)
      .action((name) =>
        choose(async (context) => (await import('./commands/retention.ts')).showRetention(context, name)),
      );
    help(show, 'retention show shop', NO_TEMPORAL);
    const apply = retention
      .command('apply')
      .description('delete the snapshots that no tier of the configuration keeps')
      .argument('<name>', 'the deployment', deploymentName)
      .option('--wait', 'return when it is done')
      .option('--timeout <duration>', 'wait no longer than this, such as 30m; the work goes on', durationFlag)
      .action((name, flags) => {
        requireWait(flags);
        choose(async (context) => (await import('./commands/retention.ts')).applyRetention(context, name, flags));
      });
    help(apply, 'retention apply shop --wait');
  }

  function addRestores(): void {
    const collect = (value: string, previous: string[] = []): string[] => [...previous, value];
    const restore = program
      .command('restore')
      .description('bring a snapshot back as a directory that mongod starts on')
      .argument('<name>', 'the deployment', deploymentName)
      .option('--snapshot <id>', 'the snapshot')
      .option('--at <time>', 'the moment: ISO 8601 with its zone (all of that second), or SECONDS,ORDINAL')
      .option('--latest', 'the newest moment that can be restored')
      .requiredOption(
        '--to <destination>',
        'dir:PATH, absent or empty; archive:FILE and deployment:NAME are not built yet',
      )
      .option('--include <namespace>', 'only these namespaces (not built yet)', collect)
      .option('--daemon <id>', 'the daemon that does it, and whose machine PATH is on')
      .option('--dry-run', 'say what would be done, and what is in the way; restore nothing')
      .option('--hosts <file>', 'new addresses of the members of a cluster (not built yet)')
      .option('--member <name>', 'one member of a cluster (not built yet)')
      .option('--wait', 'return when it is handed over')
      .option('--timeout <duration>', 'wait no longer than this, such as 30m; the work goes on', durationFlag)
      .action((name, flags) => {
        if (!flags.dryRun) requireWait(flags);
        choose(async (context) => (await import('./commands/restore.ts')).restore(context, name, flags));
      });
    help(restore, 'restore shop --snapshot shop-20260101T000000Z-1a2b3c --to dir:/srv/restored --wait');

    const restores = group('restores', 'what became of each restore', 'restores list');
    const list = restores
      .command('list')
      .description('all restores')
      .action(() => choose(async (context) => (await import('./commands/restores.ts')).showRestores(context)));
    help(list, 'restores list', NO_TEMPORAL);
    const show = restores
      .command('show')
      .description('one restore')
      .argument('<id>', 'its id')
      .action((id) => choose(async (context) => (await import('./commands/restores.ts')).showRestore(context, id)));
    help(show, 'restores show 20260101t000000z-1a2b3c', NO_TEMPORAL);
    const cancel = restores
      .command('cancel')
      .description('end a restore that runs')
      .argument('<id>', 'its id')
      .action((id) => choose(async (context) => (await import('./commands/restores.ts')).cancelRestore(context, id)));
    help(cancel, 'restores cancel 20260101t000000z-1a2b3c');
  }

  function addValidations(): void {
    const validations = group(
      'validations',
      'what came of comparing heads with their sources',
      'validations list shop',
    );
    const list = validations
      .command('list')
      .description('the validations there were')
      .argument('[name]', 'of one deployment', deploymentName)
      .action((name) =>
        choose(async (context) => (await import('./commands/validations.ts')).listValidations(context, name)),
      );
    help(list, 'validations list', NO_TEMPORAL);
    const show = validations
      .command('show')
      .description('one validation: what was repaired, not compared, or stayed different, with the first few _ids')
      .argument('<id>', 'its id')
      .action((id) =>
        choose(async (context) => (await import('./commands/validations.ts')).showValidation(context, id)),
      );
    help(show, 'validations show shop-20260101T000000Z-1a2b3c', NO_TEMPORAL);
  }

  function addDaemons(): void {
    const daemons = group('daemons', 'the workers that are, or were, there', 'daemons list');
    const list = daemons
      .command('list')
      .description('all daemons: when each was last heard of, and whose backups it runs')
      .action(() => choose(async (context) => (await import('./commands/daemons.ts')).showDaemons(context)));
    help(list, 'daemons list', NO_TEMPORAL);
    const retire = daemons
      .command('retire')
      .description('say that a daemon is gone for good: others take over its backups at once')
      .argument('<id>', 'its id')
      .option('--timeout <duration>', 'wait no longer than this', durationFlag)
      .action((id, { timeout }) =>
        choose(async (context) => (await import('./commands/daemons.ts')).retireDaemon(context, id, timeout)),
      );
    help(retire, 'daemons retire host-1');
  }

  function addPurge(): void {
    const purge = program
      .command('purge')
      .description('remove all that is stored of a deployment, snapshots too, and free its space; shows a plan first')
      .argument('<name>', 'the deployment, its backup stopped', deploymentName)
      .option('--dry-run', 'show the plan and remove nothing')
      .option('--yes', 'do not ask')
      .option('--wait', 'return when it is done')
      .option('--timeout <duration>', 'wait no longer than this, such as 30m; the work goes on', durationFlag)
      .action((name, flags) => {
        if (!flags.dryRun) requireWait(flags);
        choose(async (context) => (await import('./commands/purge.ts')).purge(context, name, flags));
      });
    help(purge, 'purge shop --dry-run');
  }

  function addExplain(): void {
    const explain = program
      .command('explain')
      .description('what an error means, who can mend it, and how')
      .argument('[code]', 'its code or its name; without it, all of them')
      .action((code) => choose(async () => (await import('./commands/explain.ts')).explain(code)));
    help(explain, 'explain LB2008', NO_TEMPORAL);
  }

  function addGroom(): void {
    const groom = program
      .command('groom')
      .description('free the space of blocks that no snapshot refers to; beside snapshots and restores that go on')
      .option('--dry-run', 'show the plan and delete nothing')
      .option('--wait', 'return when it is done')
      .option('--timeout <duration>', 'wait no longer than this, such as 30m; the work goes on', durationFlag)
      .action((flags) => {
        if (!flags.dryRun) requireWait(flags);
        choose(async (context) => (await import('./commands/groom.ts')).groom(context, flags));
      });
    help(groom, 'groom --dry-run');
  }

  function addUnbuilt(): void {
    const schedules = group('schedules', 'snapshots by the clock (not built yet)', 'schedules list');
    const list = schedules
      .command('list')
      .description('the schedules')
      .action(() => choose(notBuiltYet('schedules list')));
    help(list, 'schedules list');
    const set = schedules
      .command('set')
      .description('take snapshots at an interval')
      .argument('<name>', 'the deployment', deploymentName)
      .requiredOption('--snapshot-every <duration>', 'the interval', durationFlag)
      .action(() => choose(notBuiltYet('schedules set')));
    help(set, 'schedules set shop --snapshot-every 6h');
    for (const change of ['pause', 'resume'] as const) {
      const command = schedules
        .command(change)
        .description(`${change} the schedule of a deployment`)
        .argument('<name>', 'the deployment', deploymentName)
        .action(() => choose(notBuiltYet(`schedules ${change}`)));
      help(command, `schedules ${change} shop`);
    }
  }
}

function requireWait({
  wait,
  timeout,
}: {
  readonly wait?: true | undefined;
  readonly timeout?: number | undefined;
}): void {
  if (timeout !== undefined && !wait) throw new LifeboatError('BadUsage', '--timeout goes with --wait');
}
