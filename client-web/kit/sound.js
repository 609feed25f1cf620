/**
 * Short sounds, made when they are needed: there are no files. Owns the sounds' recipes and
 * the one audio context; refuses to know what a sound means.
 */

/**
 * One note: pitch in Hz, when it begins and how long it rings in seconds, its share of the
 * volume, its wave, and where its pitch glides to.
 * @typedef {{ pitch: number, at?: number, rings: number, share?: number, wave?: OscillatorType, to?: number }} Note
 */

/** @type {Record<string, Note[]>} */
const RECIPES = {
  chime: [{ pitch: 880, rings: 0.7 }, { pitch: 1318.5, at: 0.09, rings: 0.9, share: 0.7 }],
  ember: [{ pitch: 392, rings: 0.5, wave: 'triangle' }, { pitch: 523.3, at: 0.11, rings: 0.5, wave: 'triangle' }, { pitch: 659.3, at: 0.22, rings: 0.8, wave: 'triangle' }],
  drop: [{ pitch: 1250, to: 420, rings: 0.22 }, { pitch: 620, to: 1100, at: 0.1, rings: 0.18, share: 0.5 }],
  knock: [{ pitch: 190, to: 90, rings: 0.09, wave: 'triangle', share: 1.4 }, { pitch: 190, to: 90, at: 0.14, rings: 0.09, wave: 'triangle', share: 1.4 }],
  bell: [{ pitch: 659.3, rings: 1.4 }, { pitch: 1318.5, rings: 0.9, share: 0.4 }, { pitch: 1975.5, rings: 0.5, share: 0.2 }],
  pop: [{ pitch: 300, to: 780, rings: 0.09, share: 1.2 }],
};

export const SOUNDS = Object.keys(RECIPES);
/** At full volume, still no fright. */
const LOUDEST = 0.35;

/** @type {AudioContext | null} */
let context = null;

/**
 * @param {string} name one of `SOUNDS`
 * @param {number} volume 0 to 1
 * @returns {boolean} whether there is such a sound
 */
export function play(name, volume) {
  const recipe = RECIPES[name];
  if (!recipe || volume <= 0) return false;
  context ??= new AudioContext();
  // A page that nobody has touched may make no sound; it may be that somebody has since.
  if (context.state === 'suspended') context.resume().catch(() => {});
  const master = context.createGain();
  // The ear hears steps in loudness as ratios.
  master.gain.value = LOUDEST * Math.min(1, volume) ** 2;
  master.connect(context.destination);
  for (const note of recipe) sound(context, master, note);
  return true;
}

/** @param {AudioContext} audio @param {AudioNode} into @param {Note} note */
function sound(audio, into, { pitch, at = 0, rings, share = 1, wave = 'sine', to }) {
  const begins = audio.currentTime + at;
  const ends = begins + rings;
  const voice = audio.createOscillator();
  const shape = audio.createGain();
  voice.type = wave;
  voice.frequency.setValueAtTime(pitch, begins);
  if (to) voice.frequency.exponentialRampToValueAtTime(to, ends);
  shape.gain.setValueAtTime(0, begins);
  shape.gain.linearRampToValueAtTime(share, begins + 0.008);
  shape.gain.exponentialRampToValueAtTime(0.001, ends);
  voice.connect(shape).connect(into);
  voice.start(begins);
  voice.stop(ends + 0.02);
}
