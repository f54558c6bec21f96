import type { FaultDetail } from '../protocol/errors.ts'
import type { NetworkView } from './services.ts'

/**
 * Every sentence of the page. A second language is a second object of this type; phases have theirs in protocol/report.ts,
 * and a fault brings its own.
 */
const english = {
  name: 'ML-Store',
  skip: 'Skip to the page',
  models: {
    title: 'Models anyone can train',
    promise:
      'Pick a model and teach it with your own data. Your data never leaves this device: peers exchange what the model learned, never what it learned from.',
    search: 'Search models',
    task: 'Task',
    allTasks: 'All tasks',
    sort: 'Sort by',
    sorts: { peers: 'Most peers', fresh: 'Newest', name: 'Name' },
    loading: 'Asking who lists models …',
    peers: (count: number | undefined) =>
      count === undefined ? 'peers unknown' : plural(count, 'peer', 'peers'),
    labels: (count: number) => plural(count, 'label', 'labels'),
    kept: 'kept here',
    answered: (count: number) => `Listed by ${plural(count, 'peer', 'peers')}`,
    unanswered: (age: string) =>
      `Nobody who lists models answers now. This is what is kept here, from ${age}.`,
    refresh: 'Refresh',
    noMatch: 'No model matches.',
    clear: 'Clear the filters',
    none: 'Nobody here lists a model yet.',
    noneHint:
      'Paste the address of a peer under Network, or open a link that somebody shared with you. To publish one: mlstore publish DIR.',
    toNetwork: 'Paste an address',
    openLink: 'Open a link or CID',
    open: 'Open',
    wrongLink: 'That is no link to a model. A link has #/m/ in it; a CID begins with baf.',
  },
  tasks: {
    'image-classification': 'pictures',
    'tabular-classification': 'tables',
  } as Record<string, string>,
  model: {
    fetching: 'Fetching the model',
    fetched: (done: string, total: string, providers: number) =>
      `${done} of ${total} from ${plural(providers, 'peer', 'peers')}`,
    finding: 'Looking for somebody who has it …',
    tabs: { train: 'Train', card: 'Card', try: 'Try', versions: 'Versions', swarm: 'Swarm' },
    tabsLabel: 'About this model',
    back: 'All models',
    share: 'Share',
    version: (version: string) => `version ${version}`,
  },
  train: {
    teach: 'Teach it',
    teachHint: 'Draw one, then press what it is.',
    teachKeys: 'Or press its key.',
    drawPad: 'Drawing pad',
    testPad: 'Drawing pad for the test',
    labels: 'What is it?',
    test: 'Test it',
    testHint: 'Draw one and see what the model says.',
    undoStroke: 'Undo stroke',
    clearPad: 'Clear',
    drawFirst: 'Draw something first',
    added: (label: string, count: number) => `Added as ${label}; ${count} in all`,
    other: 'Or bring data',
    data: 'Your data',
    dataNone: 'Nothing here yet.',
    start: 'Start training',
    startHint: (count: number) =>
      count === 0
        ? 'Draw a few, use the sample, or drop your own data first.'
        : `${plural(count, 'example', 'examples')} on this device, and they stay here.`,
    least: (least: number) => `This model asks for at least ${least}.`,
    resume: 'Go on from my last checkpoint',
    busy: (title: string) => `This page is training ${title}. Stop it to train this one.`,
    waiting: (count: number) =>
      `${plural(count, 'new example waits', 'new examples wait')} for the next start.`,
    restart: 'Start again with them',
    sees: 'What the model sees',
  },
  data: {
    sample: 'Use sample data',
    folder: 'Choose a folder',
    files: 'Choose files',
    csv: 'Choose a CSV file',
    dropImages: 'Drop a folder with one folder per label',
    dropCsv: 'Drop a CSV file with a header',
    dropNow: 'Let go to read it here',
    stays: 'Read on this device, sent nowhere.',
    sampleName: 'Sample data',
    drawings: (count: number) => plural(count, 'drawing', 'drawings'),
    examples: (count: number) => plural(count, 'example', 'examples'),
    fetchingSample: 'Fetching the sample data …',
    lookingAtFiles: 'Looking at the files …',
    readingFile: (done: number, total: number) => `Reading ${done} of ${total} files …`,
    noSample: {
      kind: 'data',
      type: 'no-sample',
      message: 'this version came without sample data',
      hint: 'draw a few, or drop your own',
    } satisfies FaultDetail,
    remove: (name: string) => `Remove ${name}`,
    undo: 'Undo drawing',
    empty: 'Remove all',
    keep: 'Keep my drawings in this browser',
    counts: 'Examples of each label',
    skipped: (count: number) => `${plural(count, 'file', 'files')} left out`,
    more: (count: number) => `and ${count} more`,
    missing: (labels: string) =>
      `None yet of ${labels}. The model can still learn them from others.`,
    few: (labels: string) => `Few of ${labels} beside the rest.`,
    split: (train: number, validation: number) =>
      `${train} to train on, ${validation} kept aside to measure with.`,
    labelFor: 'These files are of',
    byFolder: 'their folders’ labels',
  },
  run: {
    title: 'Training',
    starting: 'Getting ready',
    round: (round: number, limit: number | undefined) =>
      limit ? `Round ${round} of ${limit}` : `Round ${round}`,
    samples: (count: string) => `${count} examples seen`,
    pause: 'Pause',
    pauseHour: 'Pause 1 hour',
    resume: 'Resume',
    resumesAt: (time: string) => `goes on at ${time}`,
    finish: 'Finish round',
    stop: 'Stop',
    dismiss: 'Close',
    accuracy: 'Accuracy',
    accuracyOf: 'with the swarm',
    alone: 'before averaging',
    loss: 'Loss',
    peers: 'Peers',
    swaps: 'Swaps',
    up: 'Sent',
    down: 'Received',
    step: 'Step',
    none: 'not yet',
    ended: (rounds: number) =>
      `Done: ${plural(rounds, 'round', 'rounds')}. The checkpoint is kept here.`,
    again: 'Train on',
    toModel: 'Show',
    session: 'Training session',
  },
  test: {
    published: 'as published',
    mine: 'as trained here',
    empty: 'Draw here',
    says: (label: string, share: string) => `${label}, ${share}`,
    nothing: 'No guess yet.',
    thinking: 'Looking …',
  },
  network: {
    phases: {
      starting: 'starting',
      looking: 'looking for peers',
      online: 'online',
      offline: 'offline',
      failed: 'no network',
    } satisfies Record<NetworkView['phase'], string>,
    peers: (count: number) => plural(count, 'peer', 'peers'),
  },
  nav: { label: 'Pages', models: 'Models', mine: 'Mine', network: 'Network', settings: 'Settings' },
  theme: { auto: 'As this device', light: 'Light', dark: 'Dark', toggle: 'Light or dark' },
  fault: {
    retry: 'Try again',
    copy: 'Copy details',
    copied: 'Copied',
    hint: (hint: string) => `Next: ${hint}.`,
  },
  unknown: { title: 'There is no such page', back: 'To the models' },
}

export type Catalogue = typeof english
export const text: Catalogue = english

function plural(count: number, one: string, many: string): string {
  return `${count.toLocaleString('en')} ${count === 1 ? one : many}`
}
