// What the build says, one JSON object a line on stdout, for `fastworker build`.

/** A mistake of the author, as opposed to one of the build. */
export class BuildError extends Error {
  /**
   * @param {string} message what happened
   * @param {{ at?: string, hint?: string }} [more] where, as `file:line:column`; what to do
   */
  constructor(message, more = {}) {
    super(message);
    this.at = more.at;
    this.hint = more.hint;
  }
}

/** Several mistakes. */
export class BuildErrors extends BuildError {
  /** @param {{ text: string, at?: string, hint?: string }[]} errors */
  constructor(errors) {
    super(errors.map(({ text, at, hint }) => `${at ? `${at}: ` : ''}${text}${hint ? ` (${hint})` : ''}`).join('\n'));
    this.errors = errors;
  }
}

/** The events of a build that prints them. */
export const printed = {
  step: (text) => print({ step: text }),
  warn: (text, at) => print({ warning: text, at }),
  note: (text, at) => print({ note: text, at }),
  end: (report) => print(report),
};

/** Collects warnings and notes instead, for tests. */
export const silent = { step() {}, warn() {}, note() {}, end() {} };

function print(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}
