// Bundling only: the page is plain ES modules, and `tabpeer` is the package that xtask builds into pkg/.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  resolve: {
    alias: { tabpeer: fileURLToPath(new URL('../pkg/index.js', import.meta.url)) },
  },
  server: { fs: { allow: ['..'] } },
  build: {
    target: 'es2022',
    // The content security policy knows files, not data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
