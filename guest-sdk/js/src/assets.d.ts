// Files that the build imports as text.

declare module '*.txt' { const text: string; export default text; }
declare module '*.html' { const text: string; export default text; }
declare module '*.md' { const text: string; export default text; }
declare module '*.csv' { const text: string; export default text; }
declare module '*.css' { const text: string; export default text; }
declare module '*.xml' { const text: string; export default text; }
declare module '*.svg' { const text: string; export default text; }
declare module '*.sql' { const text: string; export default text; }
declare module '*.mustache' { const text: string; export default text; }
declare module '*.hbs' { const text: string; export default text; }
declare module '*.ejs' { const text: string; export default text; }
declare module '*.liquid' { const text: string; export default text; }
declare module '*.graphql' { const text: string; export default text; }
declare module '*.yaml' { const text: string; export default text; }
declare module '*.yml' { const text: string; export default text; }
declare module '*.toml' { const text: string; export default text; }
