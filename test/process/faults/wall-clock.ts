/**
 * Loaded by a daemon under test (`node --import`): its wall clock is a day ahead, then a day behind,
 * from one look at it to the next. The monotonic clock goes on as ever.
 */
const DAY_MS = 24 * 60 * 60_000;
const trueNow = Date.now.bind(Date);
let isAhead = false;

Date.now = () => {
  isAhead = !isAhead;
  return trueNow() + (isAhead ? DAY_MS : -DAY_MS);
};
