// Reads a JSON array of envelopes, and prints for each one a line: valid, or the reason why not.
const Validator = require("sns-validator");

const validator = new Validator(/^127\.0\.0\.1:\d+$/);
const validated = (text) =>
  new Promise((resolve) => validator.validate(text, (error) => resolve(error ? error.message : "valid")));

(async () => {
  for (const text of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
    console.log(await validated(text));
  }
})();
