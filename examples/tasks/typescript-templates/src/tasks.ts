// Example: in TypeScript, the types of a function are the signature of its task, and a text file is part of the module.
//
//     fastworker build examples/tasks/typescript-templates
//     fastworker dev typescript-templates.wasm render 'Hello, {{name}}!' '{"name": "Ada"}'

import { BadArguments, task, type integer } from 'fastworker';

import invoiceTemplate from './invoice.html';
import { TemplateError, render } from './template.ts';

interface Invoice {
  number: string;
  customer: { name: string; address?: string };
  items: Item[];
  /** When it has to be paid. */
  due: Date;
  currency?: 'EUR' | 'USD';
}

interface Item {
  title: string;
  /** The price of one, in cents. */
  price: integer;
  /** @minimum 1 */
  count?: integer;
}

/**
 * Fills a template with data: `{{name}}`, `{{#list}}…{{/list}}`, `{{^nothing}}…{{/nothing}}`.
 *
 * @param template the text
 * @param data the values by their names
 */
task('render', (template: string, data: Record<string, unknown>): string => {
  try {
    return render(template, data);
  } catch (error) {
    // Another attempt would find the same template.
    throw error instanceof TemplateError ? new BadArguments(`argument 'template': ${error.message}`) : error;
  }
});

/** Writes an invoice as HTML. */
task('invoice', { timeout: '10s' }, (invoice: Invoice): string => {
  const { currency = 'EUR' } = invoice;
  const money = (cents: number) => `${(cents / 100).toFixed(2)} ${currency}`;
  const items = invoice.items.map(({ title, price, count = 1 }) => ({ title, count, sum: price * count }));
  const total = items.reduce((sum, item) => sum + item.sum, 0);
  return render(invoiceTemplate, {
    ...invoice,
    due: invoice.due.toISOString().slice(0, 10),
    items: items.map((item) => ({ ...item, sum: money(item.sum) })),
    total: money(total),
  });
});
