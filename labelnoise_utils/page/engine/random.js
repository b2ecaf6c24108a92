// What a run draws. Nothing here depends on anything else.

// sfc32, a small generator of 32-bit words by C. Doty-Humphrey: a seed gives the same run everywhere.
function makeWords(seed) {
  let [a, b, c, counter] = [0, seed | 0, 0, 1];
  const next = () => {
    const word = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + word) | 0;
    return word >>> 0;
  };
  for (let i = 0; i < 15; i++) next();
  return next;
}

function countOnes(word) {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

// The mean of batchSize fair signs, a bit for each example.
function meanSign(nextWord, batchSize) {
  let ones = 0;
  for (let left = batchSize; left > 0; left -= 32) ones += countOnes(nextWord() >>> Math.max(0, 32 - left));
  return (2 * ones - batchSize) / batchSize;
}

// An integer from 0 to n - 1, uniform up to n / 2^32.
function drawIndex(nextWord, n) {
  return Math.floor((nextWord() / 4294967296) * n);
}

// Independent standard normal numbers, two from each pair of words (Box and Muller).
function makeNormals(nextWord) {
  let spare = null;
  return () => {
    if (spare !== null) {
      const kept = spare;
      spare = null;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log((nextWord() + 1) / 4294967296));
    const angle = (2 * Math.PI * nextWord()) / 4294967296;
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}
