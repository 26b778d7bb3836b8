// What do the pages say? In the language of the reports, by keys; the daemon hands out the words with the scripts.

import { lang, words } from "./words.js";

const rule = new Intl.PluralRules(lang);

// The words by a key, with values - also elements - in their places.
export const parts = (key, values = {}) => words[key].split(/\{(\w+)\}/)
  .map((part, index) => (index % 2 ? values[part] : part)).filter((part) => part !== "");

export const t = (key, values) => parts(key, values).join("");

export const counted = (key, n, values) => t(`${key}.${rule.select(n)}`, { n, ...values });

export const known = (key) => key in words;
