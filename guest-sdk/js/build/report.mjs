// What the build says: mistakes of the author, and warnings.

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

/** Collects what the author should know. */
export class Report {
  /** @type {{ text: string, at?: string }[]} */
  warnings = [];

  /**
   * @param {string} text
   * @param {string} [at] `file:line:column`
   */
  warn(text, at) {
    this.warnings.push({ text, at });
  }
}
