/** The path of a value below a root: `[1].items[3].price`. */
export function pathText(steps) {
  return steps.map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`)).join('');
}
