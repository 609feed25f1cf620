/**
 * Where the client begins: a kept session opens the rooms, none opens the front door.
 * Owns going from one to the other, and what the browser tells about network and sight.
 */
import { nameClosing } from './kit/dialog.js';
import { append } from './kit/dom.js';
import { router } from './kit/router.js';
import { scope } from './kit/signal.js';
import { followTheme } from './kit/theme.js';
import { markDocument, ready, t } from './i18n/index.js';
import { Client } from './matrix/client.js';
import { KEY, sessionKeeper } from './matrix/session.js';
import { appView } from './views/app.js';
import { welcomeAdmin } from './views/dialogs.js';
import { forgetDrafts } from './views/drafts.js';
import { signInView } from './views/signin.js';

// The administration has an address of its own, and is a place like others.
if (/\/admin$/.test(location.pathname)) history.replaceState(null, '', location.pathname.replace(/admin$/, location.hash || '#/admin'));
const keeper = sessionKeeper(localStorage);
const { place, go, replace } = router();
/** Ends what is on screen. */
let leave = () => {};

/** @param {() => Node} view */
function show(view) {
  leave();
  const { value, stop } = scope(view);
  document.body.replaceChildren();
  append(document.body, [value]);
  leave = stop;
}

/** @param {boolean} [isLocked] the account, by an administrator */
function door(isLocked = false) {
  const { name, args } = place.peek();
  // An invitation link ends in its token, in the part of the address that no server sees.
  const invited = name === 'register' || name.startsWith('register?');
  // Signed in, in another tab.
  const other = new AbortController();
  addEventListener(
    'storage',
    ({ key }) => {
      const found = key === KEY && keeper.load();
      if (!found) return;
      other.abort();
      open(found);
    },
    { signal: other.signal },
  );
  show(() =>
    signInView({
      base: location.origin,
      expired: keeper.expired(),
      isLocked,
      tab: invited ? 'register' : 'sign-in',
      token: invited ? (new URLSearchParams(name.split('?')[1]).get('token') ?? args[0]) : undefined,
      onSession(session) {
        other.abort();
        keeper.save(session);
        if (invited) replace('home');
        open(session);
      },
    }),
  );
}

/** @param {import('./matrix/session.js').Session} session */
async function open(session) {
  const client = await Client.open(session, location.origin);
  const signal = new AbortController();
  const end = (isLocked = false) => {
    signal.abort();
    door(isLocked);
  };
  client.onSignedOut = (error) => {
    if (signal.signal.aborted) return;
    // Another tab has signed out.
    if (keeper.load()?.token !== session.token) return end();
    // Told softly, the device may come back; otherwise nothing of it may stay.
    if (error.body.soft_logout) keeper.expire(session);
    else {
      keeper.expire({ ...session, deviceId: '' });
      client.disk.destroy();
    }
    end(error.code === 'M_USER_LOCKED');
  };
  const signOut = async () => {
    await client.signOut();
    keeper.clear();
    forgetDrafts(session.userId);
    replace('home');
    end();
  };
  show(() => appView({ client, place, go, replace, signOut }));
  const isFresh = session.fresh;
  client.askAdmin().then(
    (is) => {
      if (is && isFresh) welcomeAdmin(() => go('admin', 'invitations'));
    },
    () => {},
  );
  // Told once.
  if (isFresh) keeper.save({ ...session, fresh: false });
  const options = { signal: signal.signal };
  // Signed out, or as somebody else, in another tab.
  addEventListener(
    'storage',
    ({ key }) => {
      if (key !== KEY || keeper.load()?.token === session.token) return;
      client.sync.stop();
      const next = keeper.load();
      if (!next) return end();
      signal.abort();
      open(next);
    },
    options,
  );
  addEventListener('online', () => client.sync.nudge(), options);
  addEventListener('offline', () => client.sync.cut(), options);
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && client.sync.nudge(), options);
  await client.sync.run();
}

markDocument();
nameClosing(() => t('action.close'));
followTheme();
await ready;
const session = keeper.load();
if (session) open(session);
else door();
