import type { FaultDetail } from '../protocol/errors.ts'
import type { Misfit } from '../protocol/ports/preprocess.ts'
import { type RemarkFacts, type RemarkType, sayRemark } from '../protocol/ports/trainer/remarks.ts'
import { type Path, type Phase, phaseSentences } from '../protocol/report.ts'
import type { Ability } from './abilities.ts'
import { whole } from './format.ts'
import { type Language, language } from './language.ts'
import type { CheckName, NetworkView } from './services.ts'
import type { Alone, PeerRole, Use } from './state.ts'
import { faults } from './text/faults.ts'

type Remarks = { [T in RemarkType]: (facts: RemarkFacts<T>) => string }

/**
 * Every sentence of the page, in English; faults have a file of their own. A second language is a second object of this type,
 * and a line in `catalogues`: README.md says how.
 */
const english = {
  /** Of the page, for who reads it aloud. */
  lang: 'en',
  name: 'ML-Store',
  skip: 'Skip to the page',
  models: {
    title: 'Models anyone can train',
    promise:
      'Pick a model and teach it with your own data. Your data never leaves this device: peers exchange what the model learned, never what it learned from.',
    steps: ['Open a model', 'Draw or drop examples', 'Train with whoever is here'],
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
    answered: (count: number, models: number) =>
      `${models > 0 ? 'Listed by' : 'Asked'} ${plural(count, 'peer', 'peers')}.`,
    version: (version: string) => `version ${version}`,
    unanswered: (age: string | undefined) =>
      `Nobody who lists models answers now. This is what is kept here${age ? ` as of ${age}` : ''}.`,
    cut: (listed: number, total: number) =>
      `${whole(listed)} of ${whole(total)} models; a search finds the others.`,
    refresh: 'Refresh',
    noMatch: 'No model matches.',
    clear: 'Clear the filters',
    none: 'Nobody here lists a model yet.',
    noneHint:
      'Paste the address of a peer under Network, or open a link that somebody shared with you. To publish a model of your own, run this in a terminal:',
    toNetwork: 'Paste an address',
    openLink: 'Open a link or the address of a version',
    train: 'Train it',
    open: 'Open',
    wrongLink:
      'That is no link to a model. A link has #/m/ in it; the address of a version begins with baf.',
  },
  tasks: {
    'image-classification': 'pictures',
    'tabular-classification': 'tables',
  } as Record<string, string>,
  model: {
    fetching: 'Fetching the model',
    fetched: (done: string, total: string, providers: number) =>
      `${done} of ${total} from ${plural(providers, 'peer', 'peers')}`,
    finding: 'Looking for somebody who has it; that may take a minute …',
    elsewhere: 'See what else is listed',
    tabs: { train: 'Train', card: 'Card', try: 'Try', versions: 'Versions', swarm: 'Swarm' },
    tabsLabel: 'About this model',
    failed: 'This model cannot be opened',
    newer: (version: string) => `A newer version, ${version}, is listed.`,
    toNewer: 'Open it',
    share: 'Share',
    version: (version: string) => `version ${version}`,
  },
  train: {
    teach: 'Teach it',
    teachHint: 'Draw one, then name it',
    teachKeys: 'On a keyboard, press its key.',
    drawPad: 'Drawing pad',
    testPad: 'Drawing pad for the test',
    labels: 'What is it?',
    test: 'Test it',
    testHint: 'Draw one and see what it says',
    undoStroke: 'Undo',
    clearPad: 'Clear',
    drawFirst: 'Draw something first',
    added: (label: string, count: number) => `Added as ${label}; ${count} in all`,
    other: 'Or bring data',
    data: 'Your data',
    start: 'Start training',
    startWithSample: 'Train on sample data',
    startHint: (count: number, drawable: boolean, hasSample: boolean) => {
      if (count > 0)
        return `${plural(count, 'example', 'examples')}. ${count === 1 ? 'It stays' : 'They stay'} on this device.`
      if (hasSample)
        return drawable
          ? 'Or draw a few first. They stay on this device.'
          : 'Or bring your own. It stays on this device.'
      return drawable ? 'Draw a few or drop your own data first.' : 'Drop your own data first.'
    },
    cost: (step: string, round: string) => `Here a step takes ${step}, and a round ${round}.`,
    least: (least: number) => `This model asks for at least ${least}.`,
    resume: (rounds: number) => `Go on from round ${rounds}, kept here`,
    busy: (title: string) => `This page is training ${title}. Stop it to train this one.`,
    waiting: (count: number) =>
      `${plural(count, 'new example waits', 'new examples wait')} for the next start.`,
    restart: 'Start again with them',
    sees: 'What the model sees',
    label: 'Label',
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
    taken: (count: number) => plural(count, 'picture taken', 'pictures taken'),
    drawnOrTaken: (count: number) => `${plural(count, 'picture', 'pictures')}, drawn or taken`,
    examples: (count: number) => plural(count, 'example', 'examples'),
    fetchingSample: 'Fetching the sample data …',
    lookingAtFiles: 'Looking at the files …',
    readingFile: (done: number, total: number) => `Reading ${done} of ${total} files …`,
    remove: (name: string) => `Remove ${name}`,
    undo: 'Undo drawing',
    undoTaken: 'Undo the last',
    empty: 'Remove all',
    keep: 'Keep my data in this browser',
    counts: 'Examples of each label',
    skipped: (count: number) => `${plural(count, 'file', 'files')} left out`,
    more: (count: number) => `and ${count} more`,
    doubles: (count: number) =>
      count === 1 ? 'One of them is there twice.' : `${count} of them are there more than once.`,
    missing: (labels: string) =>
      `None yet of ${labels}. The model can still learn them from others.`,
    few: (labels: string) => `Few of ${labels} beside the rest.`,
    split: (train: number, validation: number) =>
      `${train} to train on, ${validation} kept aside to measure with.`,
    labelFor: 'Label files',
    byFolder: 'by their folder',
    allAs: (label: string) => `all as ${label}`,
    /** In brackets, behind what is not kept therefore. */
    noDatabase: 'it has no IndexedDB',
    nothing: 'nothing',
    fileCount: (count: number) => plural(count, 'file', 'files'),
    columns: 'say below which of its columns is which',
    choose: 'Choose a column',
    useColumns: 'Read the file',
  },
  /** Why a file was left out, behind its name. */
  leftOut: {
    loose: 'is not in a folder named for its label',
    folder: (name: string, labels: string) =>
      `lies in the folder ${JSON.stringify(name)}, expected one named for a label: ${labels}`,
    twin: (path: string) => `is the same picture as ${path}`,
    large: (bytes: number, limit: number) =>
      `has ${whole(bytes)} bytes, expected at most ${whole(limit)}`,
    unreadable: 'is no picture that this browser can read',
    /** Its facts are what another language says it by. */
    misfit: ({ message }: Pick<Misfit, 'facts' | 'message'>) => message,
  },
  camera: {
    open: 'Use the camera',
    asking: 'Asking for the camera …',
    close: 'Stop the camera',
    preview: 'What the camera sees',
    label: 'Pictures of',
    take: 'Take a picture',
    hint: 'Hold the button to take five a second. They stay on this device.',
    refused: {
      kind: 'usage',
      type: 'camera-refused',
      message: 'this page may not use the camera',
      hint: 'allow it at the camera sign in the address bar, or in the settings of this browser or device, then press again',
    } satisfies FaultDetail,
    missing: {
      kind: 'resource',
      type: 'no-camera',
      message: 'this device has no camera, or it is switched off',
      hint: 'connect or switch on one, then press again, or choose pictures',
    } satisfies FaultDetail,
    busy: {
      kind: 'resource',
      type: 'camera-busy',
      message: 'the camera gives no picture: another program or page may have it',
      hint: 'close what uses it, then press again',
    } satisfies FaultDetail,
    insecure: {
      kind: 'resource',
      type: 'camera-insecure',
      message: 'browsers give a camera to secure pages only, and this one is not',
      hint: 'open it over https, or from localhost on the machine that serves it',
    } satisfies FaultDetail,
    lost: {
      kind: 'resource',
      type: 'camera-lost',
      message: 'the camera ended: it was unplugged, or is no longer allowed',
      hint: 'connect it or allow it, then press again; pictures that were taken are here',
    } satisfies FaultDetail,
    other: (cause: string): FaultDetail => ({
      kind: 'resource',
      type: 'camera-failed',
      message: `the camera did not open: ${cause}`,
      hint: 'press again, or choose pictures',
    }),
  },
  run: {
    title: 'Training',
    detail: 'Round by round',
    starting: 'Getting ready',
    round: (round: number, limit: number | undefined) =>
      limit ? `Round ${round} of ${limit}` : `Round ${round}`,
    rounds: 'Round',
    limit: (limit: number) => `of ${whole(limit)}`,
    samples: 'Examples seen',
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
    none: '–',
    again: 'Continue',
    tryIt: 'Try it',
    takeIt: 'Download',
    takingOver: 'Taking over what the swarm has learned so far',
    apart: (count: number) =>
      `Training alone; ${plural(count, 'other is', 'others are')} known, and none swaps with this page yet`,
    limited: 'Training alone; today’s limit of traffic is reached',
    limitedHint: (megabytes: number) =>
      `Swaps have sent and received ${whole(megabytes)} MB today, as much as the settings allow. They go on after midnight, or when the limit is raised.`,
    limits: 'Change the limit',
    why: {
      offline: 'This browser is offline. Swaps go on when it is back; what is trained is kept.',
      noWebRTC:
        'This browser has no WebRTC, so it swaps with Node peers over WebSocket only, and none that trains this model is in reach.',
      unlinked:
        'Nobody can be reached from here, so nobody can be found to swap with. Paste the address of a peer under Network.',
      apart:
        'Others have this model, but none of them swaps with this page: they do not train now, or no direct way leads to them.',
      nobody: 'Nobody else trains this model now. Swaps begin as soon as somebody does.',
    } satisfies Record<Alone, string>,
    notResumed:
      'What was kept here of earlier rounds cannot be read any more, so this run began with the model as it was published. Its first checkpoint takes that place.',
    session: 'Training session',
    preparing: {
      device: (sentence: string, done: number, total: number) =>
        `${sentence}: ${done} of ${total} trial steps`,
      data: (sentence: string, done: number, total: number) =>
        `${sentence}: ${whole(done)} of ${whole(total)} examples`,
    },
    underWay: {
      round: (done: string, total: string, round: number) =>
        `Round ${whole(round)}: step ${done} of ${total}`,
      evaluation: (done: string, total: string) => `Measuring it: ${done} of ${total} examples`,
      swap: (done: string, total: string, peer: string) =>
        `To and from ${peer}: ${done} of ${total}`,
    },
    stoppedUnsaved: 'Stopped; no checkpoint could be saved',
    noSimd:
      'This browser has no WebAssembly SIMD, so plain JavaScript trains, many times slower. A newer browser has it.',
  },
  chart: {
    metric: 'Show',
    trained: 'before averaging',
    averaged: 'after averaging',
    loss: 'on what it trains',
    round: 'Round',
    waiting: 'The chart begins after the first round.',
    summary: (metric: string, round: number, trained: string, averaged: string) =>
      `${metric} at round ${round}: ${trained} before averaging, ${averaged} after.`,
    table: 'As a table',
    lastRounds: (count: number) => `The last ${count} rounds`,
    csv: 'Save CSV',
    jsonl: 'Save JSONL',
  },
  peers: {
    title: 'Peers',
    name: 'Peer',
    path: 'Path',
    rtt: 'Round trip',
    swaps: 'Swaps',
    last: 'Last swap',
    bytes: 'Sent, received',
    none: 'Nobody else trains this model now. Share it, and whoever joins averages with you.',
    soon: (count: number) => `${plural(count, 'peer', 'peers')} found; no swap yet.`,
    ms: (ms: number) => `${Math.round(ms)} ms`,
    unknown: '–',
    /** `reason`: what ended the stream, in the words of whoever did; another language may say that it failed and no more. */
    failed: (reason: string) => reason,
    paths: {
      tcp: 'TCP',
      ws: 'WebSocket',
      webrtc: 'WebRTC',
      'webrtc-direct': 'WebRTC, direct',
      relay: 'relay, for greeting only',
      memory: 'memory',
    } satisfies Record<Path, string>,
  },
  try: {
    one: 'Try one',
    file: 'Choose a picture',
    fileHint: 'Or drop a picture here.',
    predict: 'Predict',
    many: 'Try many',
    manyHint:
      'Drop a folder, pictures or a CSV file. Where folders are named for labels, or a column has them, this says how often the model is right.',
    manyHintTable: (label: string) =>
      `Drop a CSV file with a header. Where it has the column ${label}, this says how often the model is right.`,
    manyColumns: (count: number) =>
      `This model takes ${count} columns, too many for a form: try rows of a CSV file under Try many.`,
    manyFolder: 'Choose a folder',
    manyFiles: 'Choose pictures',
    manyCsv: 'Choose a CSV file',
    manyOwn: 'Use my training data',
    working: (done: number, of: number) =>
      of > 0 ? `Tried ${whole(done)} of ${whole(of)} …` : 'Reading …',
    right: (right: string, size: number) =>
      `${right} of ${plural(size, 'example', 'examples')} right`,
    unlabelled: (size: number) =>
      `${plural(size, 'example', 'examples')} without labels: this is what the model says of them.`,
    first: (shown: number, size: number) =>
      shown < size ? `The first ${shown} of ${whole(size)}` : 'What it says of each',
    example: 'Example',
    says: 'It says',
    probability: 'Probability',
    row: (row: number) => `row ${row}`,
    matrix: 'What it says (across) of what it is (down)',
    saveCsv: 'Save predictions',
    compare: (version: string) => `Compare with the newest, ${version}`,
    comparing: (version: string) => `Fetching version ${version} …`,
    untrained: 'Train it here and this page compares what you trained with what was published.',
  },
  copy: {
    copy: 'Copy',
    copied: 'Copied',
    refused: 'This browser does not let us copy',
  },
  cli: {
    show: 'Show CLI',
    data: 'mlstore reads your files where they are, and keeps no copy.',
    run: 'In a terminal: Ctrl-C says goodbye, saves and stops, and the same command goes on from there. Who starts it from a program writes pause, resume, finish or leave to it, one word a line.',
    checkpoint:
      'mlstore keeps one checkpoint a model in its home. Nothing there forgets it: --fresh begins anew, and writes over it.',
    version:
      'mlstore keeps in its home what it fetched, and has no command that removes one version. This serves it, as this page does while it is open.',
    limits:
      'In a terminal a run has these limits for itself; --for 2h ends it after a time. mlstore counts no megabytes a day.',
    join: 'mlstore remembers in its home, in config.json, what was given with --join.',
    doctor: 'The same checks for a machine that runs mlstore, and for a peer that it can dial.',
  },
  test: {
    published: 'as published',
    mine: 'as trained here',
    newest: (version: string) => `as newest, ${version}`,
    nothing: 'The model’s guess stands here.',
  },
  card: {
    noReadme: 'Its owner wrote no card.',
    data: 'Data you need',
    image: (width: number, height: number, channels: number) =>
      `Pictures of ${width} x ${height} pixels, ${channels === 1 ? 'in shades of gray' : 'in colour'}, in one folder per label.`,
    table: (columns: readonly string[], label: string) =>
      `A CSV file with a header: ${columns.slice(0, 12).join(', ')}${columns.length > 12 ? ' …' : ''}, and the label in ${label}.`,
    leaves: 'What leaves this device',
    leavesText: (size: string, swaps: number) =>
      `The model’s numbers, ${size} each way in a swap, ${plural(swaps, 'swap', 'swaps')} a round. They go straight to another peer and never through a relay.`,
    stays:
      'Never your pictures, rows or drawings. Numbers learned from few examples can still tell something about them, so bring only data that you may use.',
    cost: 'On this device',
    measured: (backend: string, step: string, round: string) =>
      `A step takes ${step} here and a round of training ${round}, on the ${backend} backend.`,
    measuredAt: (age: string) => `Measured ${age}.`,
    unmeasured:
      'Not measured here yet. It takes a few training steps, and nothing is learned by them.',
    measure: 'Measure it here',
    measureAgain: 'Measure it again',
    measuring: 'Measuring what a training step takes here …',
    measureBusy: (title: string) =>
      `This page is training ${title}. What this model takes can be measured when that has ended.`,
    traffic: (hour: string) =>
      `At the pace of this device that is up to ${hour} an hour, sent and received together. Settings can limit what goes in a day.`,
    memory: 'Memory to train it',
    /** Each of its facts, which are text. */
    remarks: {
      differs: (facts) => sayRemark('differs', facts),
      slower: (facts) => sayRemark('slower', facts),
      failed: (facts) => sayRemark('failed', facts),
      another: (facts) => sayRemark('another', facts),
      'no-room': (facts) => sayRemark('no-room', facts),
      'features-first': (facts) => sayRemark('features-first', facts),
    } satisfies Remarks,
    stops: (rounds: number) =>
      `It ends by itself after ${plural(rounds, 'round', 'rounds')}, as its owner says; the settings can say otherwise.`,
    remark: (remark: string) => `${remark.charAt(0).toUpperCase()}${remark.slice(1)}.`,
    params: 'Params',
    accuracy: 'Accuracy, says its owner',
    owner: 'Owner',
    cid: 'Address',
    take: 'Download',
    takeHint: 'A zip with the TensorFlow.js model, safetensors, labels and card.',
    zipping: 'Packing …',
    takePublished: 'Download as published',
    takeMine: 'Download as trained here',
  },
  versions: {
    title: 'Where it comes from',
    hint: 'Each version has its own address and never changes. The first one names the swarm.',
    roles: {
      newest: 'Newest listed',
      here: 'This one',
      parent: 'Its parent',
      ancestor: 'Earlier',
      genesis: 'First version',
    },
    tracing: 'Looking for earlier versions …',
    measured: (accuracy: string) => `${accuracy} accurate, says its owner`,
  },
  swarm: {
    title: 'Who trains it',
    hint: 'Everybody who trains this model, in pages and programs, averages with a few others. Nobody is in the middle.',
    inside: (count: number, direct: number) =>
      `${plural(count, 'peer', 'peers')} in the swarm, ${direct} linked straight to this page.`,
    cards: (count: number) => `${plural(count, 'peer is', 'peers are')} listed as training it.`,
    unknown: 'Nobody who would know answers now. Start training to look for yourself.',
    bytes: (up: string, down: string, swaps: number) =>
      `${up} sent and ${down} received in ${plural(swaps, 'swap', 'swaps')}.`,
  },
  share: {
    title: (title: string) => `Share ${title}`,
    hint: 'Whoever opens this link trains with you. It says which model, and who has it.',
    nowhere: 'This page has no address yet, so the link says which model but not where it is.',
    link: 'Link',
    copyLink: 'Copy the link',
    cli: 'On the command line',
    qr: 'QR code of the link',
    close: 'Close',
  },
  mine: {
    title: 'Mine',
    hint: 'What this browser trained, and the versions it keeps. A checkpoint is kept of every run, and the next one goes on from it.',
    rounds: (rounds: number) => plural(rounds, 'round', 'rounds'),
    trainOn: 'Continue',
    take: 'Download',
    forget: 'Forget it',
    sure: 'Forget it for good',
    keep: 'Keep it',
    none: 'Nothing trained here yet.',
    noneHint: 'Pick a model, bring a few examples, and what comes of it stands here.',
    soon: (title: string) => `${title} is being trained. Its first checkpoint will stand here.`,
    loading: 'Looking at what is kept here …',
    damaged: (cause: string) =>
      `What is kept of this run cannot be read: ${cause}. Forget it, and train the model anew.`,
    anew: 'Train anew',
  },
  versionsHere: {
    title: 'Versions kept here',
    hint: 'Every version that was opened here is kept, and served to whoever asks for it. One that you remove is fetched again when it is opened.',
    none: 'No version is kept here yet.',
    number: (number: string) => `version ${number}`,
    since: (age: string) => `came ${age}`,
    sinceBefore: 'came on an earlier visit',
    uses: {
      trained: 'trained now',
      resumed: 'a run goes on from it',
      none: undefined,
    } satisfies Record<Use, string | undefined>,
    listed: 'its model is listed',
    unlisted: 'not listed: only its link leads to it',
    damaged: 'It cannot be read here. Remove it, and open it again to fetch it.',
    open: 'Open',
    free: 'Remove it',
    sure: 'Remove it now',
    freeing: 'Removing …',
    keep: 'Keep it',
    trained: {
      kind: 'resource',
      type: 'trained-now',
      message: 'this version is being trained on this page',
      hint: 'stop the training, then remove it',
    } satisfies FaultDetail,
    trainedElsewhere: {
      kind: 'resource',
      type: 'trained-elsewhere',
      message: 'another tab of this browser is training, and may need this version',
      hint: 'stop it there, then remove it',
    } satisfies FaultDetail,
    total: (count: number, size: string) => `${plural(count, 'version', 'versions')}, ${size}.`,
    room: (used: string, most: string) =>
      `With runs and data, this page takes ${used} of the ${most} that this browser allows it.`,
    unknownRoom: 'This browser does not say how much room it gives.',
    promised: 'The browser promised to keep it all when room runs short.',
    notPromised: 'The browser may clear it all when room runs short.',
    ask: 'Ask the browser to keep it',
    asking: 'Asking …',
    refused:
      'It did not promise. Some browsers do once this page is bookmarked, installed or visited often.',
  },
  settings: {
    title: 'Settings',
    theme: 'Light or dark',
    limits: 'Limits',
    rounds: 'Stop after so many rounds',
    roundsHint:
      '0 goes on until you stop it, or as long as the model’s owner says. Applies from the next start.',
    megabytes: 'Megabytes a day',
    megabytesHint: (today: string) =>
      `What swaps may send and receive together; then training goes on alone until the next day. 0 is no limit. Today: ${today}.`,
    intensity: 'Intensity',
    intensityHint:
      'How much of the time training takes; the rest is left to whatever else runs here. Applies at once.',
  },
  owner: {
    title: 'Owner key',
    hint: 'It signs the models that you publish. Whoever has it can release new versions of them; without it, nobody can.',
    none: 'None yet. It is made when it is first needed: to publish, or to be exported.',
    passphrase: 'Passphrase of the file',
    passphraseHint:
      'Several words, 10 characters at least. A file opens with its own passphrase only, and nobody can tell you a lost one.',
    show: 'Show it',
    export: 'Export to a file',
    import: 'Import a file',
    replaces: (end: string) =>
      `This browser has a key already, …${end}. It will be gone: export it first if you publish with it.`,
    replace: 'Replace it',
    keep: 'Keep it',
    doing: 'Working; this takes a second or two …',
    exported: 'Exported. Keep the file and its passphrase apart.',
    imported: 'Imported. What you publish here is signed by this key now.',
  },
  abilities: {
    webrtc: {
      title: 'WebRTC',
      without: 'Missing: this page reaches Node peers only, no other pages.',
    },
    wasm: { title: 'WebAssembly', without: 'Missing: training is many times slower.' },
    simd: {
      title: 'WebAssembly SIMD',
      without: 'Missing: training is many times slower. A newer browser has it.',
    },
    storage: { title: 'IndexedDB', without: 'Missing: nothing is kept when you close the page.' },
    secure: {
      title: 'Secure page',
      without:
        'Missing: open this page over https or from localhost, or the browser hides cryptography.',
    },
    worker: { title: 'Workers', without: 'Missing: this browser cannot train.' },
  } satisfies Record<Ability, { title: string; without: string }>,
  network: {
    title: 'Network',
    sentences: {
      starting: 'Starting.',
      looking: 'Looking for peers.',
      online: 'Connected. Peers are in reach, and so are the models that they have.',
      offline: 'Nobody can be reached. What is kept here can still be trained and tried.',
      failed: 'The network did not start. Reload the page; the cause stands below.',
    } satisfies Record<NetworkView['phase'], string>,
    closed:
      'No bootstrap or Node peer is in reach. Those who are linked train and swap on, but nobody new can join until one returns.',
    join: 'Paste an address',
    joinHint: 'Somebody who runs mlstore or shared a link can tell you theirs.',
    address: 'Address of a peer',
    dial: 'Connect',
    dialling: 'Connecting …',
    joined: 'Connected.',
    remembered: 'Remembered here',
    unjoin: (address: string) => `Forget ${address}`,
    me: 'This page',
    meHint: 'The name by which peers know it:',
    noPeer: 'Not started yet.',
    addresses: 'Where others reach this page',
    noAddresses: 'Nowhere yet: another page reaches this one through a peer that introduces them.',
    linked: 'Linked now',
    alone: 'Nobody.',
    registries: (count: number) => `${plural(count, 'peer lists', 'peers list')} models.`,
    introducers: (count: number) =>
      `${plural(count, 'bootstrap or Node peer brings', 'bootstraps or Node peers bring')} newcomers together.`,
    test: 'Self-test',
    now: 'Yes, now.',
    reached: {
      lists: {
        title: 'Finds models',
        without:
          'Nobody in reach lists models. Paste the address of a bootstrap or peer that runs.',
      },
      direct: {
        title: 'Is linked directly',
        without: 'No direct link to anybody yet: params never go through a relay.',
      },
      reachable: {
        title: 'Is found by other pages',
        without:
          'Not now: it takes WebRTC here, and a bootstrap or Node peer in reach that introduces this page.',
      },
    },
    roles: {
      introduces: 'introduces',
      lists: 'lists models',
      trains: 'trains',
    } satisfies Record<PeerRole, string>,
    rolesTitle: 'What it does',
    browser: 'This browser',
    has: 'Works.',
    report: 'Copy a report',
    reportHint: 'For somebody who helps you: addresses, peers and figures. No data of yours.',
    phases: {
      starting: 'starting',
      looking: 'looking for peers',
      online: 'online',
      offline: 'offline',
      failed: 'no network',
    } satisfies Record<NetworkView['phase'], string>,
    peers: (count: number) => plural(count, 'peer', 'peers'),
  },
  selfTest: {
    start: 'Test now',
    again: 'Test again',
    hint: 'Asks everybody who is linked, comes back to this page by its own address, and tries what this browser says it can. It takes seconds.',
    running: (done: number, total: number) => `Testing: ${done} of ${total} done …`,
    done: (failed: number, total: number) =>
      failed === 0 ? `All ${total} went well.` : `${failed} of ${total} failed.`,
    checks: {
      listing: 'Lists models',
      ping: 'Answers',
      relay: 'Is found by other pages',
      webrtc: 'WebRTC',
      home: 'IndexedDB',
      backend: 'WebAssembly SIMD',
    } satisfies Record<CheckName, string>,
    trying: 'Trying …',
    peer: (end: string) => `peer …${end}`,
    ok: {
      listing: (count: number) => `lists ${plural(count, 'model', 'models')}`,
      ping: 'answered',
      relay: (path: string) => `a visitor came by this page’s own address, over ${path}`,
      webrtc: 'one connection of this page heard another',
      home: 'written, read and deleted',
      backend: 'the engine compiles',
    },
    late: (seconds: number) => `nothing came within ${seconds} s`,
    failed: {
      listing: (cause: string) => ({
        ...failedCheck('network', 'listing', `it lists nothing to this page: ${cause}`),
        hint: 'paste the address of another bootstrap or peer: names of models come from them',
      }),
      ping: (cause: string) => ({
        ...failedCheck('network', 'ping', `it does not answer: ${cause}`),
        hint: 'wait a minute: a link that is dead is dropped, and made anew where that goes',
      }),
      relay: (cause: string) => ({
        ...failedCheck('network', 'relay', `a visitor did not reach this page: ${cause}`),
        hint: 'other pages may not either: paste the address of another bootstrap or Node peer, and test again',
      }),
      webrtc: (cause: string) => ({
        ...failedCheck(
          'resource',
          'webrtc',
          `this browser has WebRTC and it does not work: ${cause}`,
        ),
        hint: 'look for an extension or a policy that blocks WebRTC, and switch it off for this page',
      }),
      home: (cause: string) => ({
        ...failedCheck('resource', 'home', `this browser does not keep what it is given: ${cause}`),
        hint: 'free some space, or remove some versions under Mine; until then take results as a zip under Card',
      }),
      backend: (cause: string) => ({
        ...failedCheck('resource', 'backend', `the engine does not compile: ${cause}`),
        hint: 'reload the page, or take a newer browser: without it training is many times slower',
      }),
    } satisfies Record<CheckName, (cause: string) => FaultDetail>,
    nobody: {
      listing: {
        ...failedCheck('network', 'listing', 'nobody who is linked lists models'),
        hint: 'paste the address of a bootstrap or peer that runs',
      },
      ping: {
        ...failedCheck('network', 'ping', 'nobody is linked'),
        hint: 'paste the address of a bootstrap or peer that runs',
      },
    },
    noPlace: {
      ...failedCheck('network', 'relay', 'this page has no address that others can reach'),
      hint: 'paste the address of a bootstrap or Node peer, which introduces this page; it takes WebRTC here, too',
    },
    full: {
      ...failedCheck(
        'network',
        'relay',
        'this page has as many links as it takes, so no visitor is let in now',
      ),
      hint: 'test again when they are fewer; until then those that it is linked to find it',
    },
    noWebRTC: {
      ...failedCheck('resource', 'webrtc', 'this browser has no WebRTC, or hides it'),
      hint: 'look for an extension or a setting that hides it; without it this page reaches Node peers only',
    },
    nothingKept: {
      ...failedCheck('resource', 'home', 'this browser opens no database for this page'),
      hint: 'allow it to keep site data, or use a window that is not private',
    },
  },
  shortcuts: {
    title: 'Keyboard',
    search: 'Search the models',
    pause: 'Pause or resume training',
    help: 'Show this list',
    off: 'They do nothing while you type. You can switch them off under Settings.',
    close: 'Close',
    use: 'Use shortcuts of a single key',
    useHint:
      'They do nothing while you type. On the drawing pad a label of one character is its own key, even with shortcuts off.',
  },
  nav: { label: 'Pages', models: 'Models', mine: 'Mine', network: 'Network', settings: 'Settings' },
  theme: { auto: 'As this device', light: 'Light', dark: 'Dark', toggle: 'Light or dark' },
  /** Of a run, by their stable names. */
  phases: phaseSentences as Record<Phase, string>,
  faults,
  fault: {
    retry: 'Try again',
    copy: 'Copy details',
    /** A sentence, unless it begins with a name that is written small. */
    message: (message: string) =>
      `${/^[a-z]+ /.test(message) ? message.charAt(0).toUpperCase() + message.slice(1) : message}.`,
    hint: (hint: string) => `Next: ${hint}${/[.!?…]$/.test(hint) ? '' : '.'}`,
  },
  unknown: { title: 'There is no such page', back: 'To the models' },
}

export type Catalogue = typeof english
const catalogues: Record<Language, Catalogue> = { en: english }

/** What this page says, in the language that was chosen when it began. */
export const text = catalogues[language]

function failedCheck(kind: 'network' | 'resource', check: CheckName, message: string) {
  return { kind, type: `${check}-failed`, message }
}

function plural(count: number, one: string, many: string): string {
  return `${whole(count)} ${count === 1 ? one : many}`
}
