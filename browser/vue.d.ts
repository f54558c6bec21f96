/** For tools that read TypeScript alone: what these hold only vue-tsc and Vite know. */
declare module '*.vue'
declare module '*.css'
declare module '*?worker&url'
