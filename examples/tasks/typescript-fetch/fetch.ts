// Example: a task that fetches. It is async, so the build takes the complete engine; and it reaches only the hosts that
// the operator grants:
//
//     fastworker build examples/tasks/typescript-fetch/fetch.ts
//     fastworker dev --allow-http example.org examples/tasks/typescript-fetch/fetch.wasm page http://example.org/

import { GiveUp, Retry, isCancelled, progress, task } from 'fastworker';

interface Page {
  url: string;
  status: number;
  title: string | null;
  /** Of the body. */
  characters: number;
}

/** Fetches a page, and returns its title. Retried up to four times if the server is busy. */
const page = task('page', { timeout: '30s', maxRetries: 4, retryDelay: '2s', retryBackoff: 2, maxReceived: '16 MiB' }, async (url: string): Promise<Page> => {
  const response = await fetch(url, { headers: { accept: 'text/html' } });
  if (response.status === 429 || response.status === 503) {
    throw new Retry(`${url} is busy`, { after: Number(response.headers.get('retry-after')) || 10 });
  }
  if (response.status === 404 || response.status === 410) throw new GiveUp(`${url} does not exist`);
  if (!response.ok) throw new Error(`${url} replied ${response.status}`);
  const text = await response.text();
  const title = /<title[^>]*>([^<]*)<\/title>/i.exec(text)?.[1]?.trim() ?? null;
  return { url, status: response.status, title, characters: text.length };
});

/** Fetches several pages at the same time. One that fails is null. */
task('pages', async (urls: string[]): Promise<(Page | null)[]> => {
  let done = 0;
  return Promise.all(urls.map(async (url) => {
    try {
      return isCancelled() ? null : await page(url);
    } catch (error) {
      console.warn(`${url}: ${error}`);
      return null;
    } finally {
      progress((done += 1), urls.length, url);
    }
  }));
});
